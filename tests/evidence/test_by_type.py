"""All evidence of a type: made on one half, judged on the other; saved, found again, or damaged in words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type import measure
from scx_core.evidence.by_type.measure import evidence_file, evidence_of_types, saved_evidence
from scx_core.evidence.by_type.prediction import predict_knockouts
from scx_core.evidence.by_type.record import TypeEvidence, as_one_family
from scx_core.evidence.by_type.tables import evidence_tables
from scx_core.evidence.knockouts.measured_effects import CellKnockouts, GeneKnockout, joint_drops
from scx_core.evidence.ladder import EXACT, IN_FLOAT64
from scx_core.language import load_language
from scx_core.runs.files import to_json_text
from scx_core.statistics.hypothesis_tests import q_values
from scx_core.statistics.resampling import one_group
from tests.builders.evidence import CFG, LABEL, OTHER, tiny_evidence, tiny_others, tiny_tracer


@pytest.fixture(scope="module")
def found():
    return tiny_evidence()


def test_no_cell_is_on_both_sides(found):
    donors = tiny_tracer().table.donors
    for one in found.types:
        made, judged = one.circuit.provenance["cells"], one.circuit.provenance["knockouts"]["cells"]
        assert not set(made) & set(judged)
        assert not set(donors[made]) & set(donors[judged])
        assert one.curves is None or not set(made) & set(one.curves["cells"]["measured"])


def test_a_joint_knock_out_is_the_real_models(found):
    """The dose with all genes of the circuit's ranking, measured again."""
    one = found.of(LABEL)
    ranked = next(row for row in one.rankings["rankings"] if row["name"] == "circuit")
    from scx_core.evidence.by_type.measure import split_halves
    from scx_core.evidence.rankings.rankings import RankingConfig

    _, second, _ = split_halves(tiny_tracer().table, RankingConfig(least=CFG.least))
    drops = joint_drops(tiny_tracer(), second[LABEL][: CFG.measured], one.answer, [ranked["genes"][:1]])
    dose = next(row for row in one.doses if (row["ranking"], row["size"]) == ("circuit", 1))
    assert dose["mean"] == pytest.approx(drops.drop_SC[0].mean(), abs=1e-9)


def test_a_prediction_that_is_the_knock_out_is_perfect_and_its_opposite_is_not():
    rng = np.random.default_rng(0)
    gap_CG = rng.normal(size=(5, 30))
    cells = [
        CellKnockouts(c, 0.0, 0.0, tuple(GeneKnockout(f"g{g}", g, gap=float(x)) for g, x in enumerate(gap_G)))
        for c, gap_G in enumerate(np.repeat(gap_CG[:1], 5, 0))
    ]
    right = {f"g{g}": float(x) for g, x in enumerate(gap_CG[0])}
    wrong = {gene: -x for gene, x in right.items()}
    made = predict_knockouts(right, wrong, cells, one_group(5, 0))
    assert made.circuit.spearman.mean == made.circuit.sign.mean == pytest.approx(1.0)
    assert made.gradient.spearman.mean == pytest.approx(-1.0) and made.gradient.sign.mean == 0.0
    assert made.ahead.mean == pytest.approx(2.0)


def test_q_is_over_all_types_and_rivals(found):
    rows = [row for one in found.types for row in one.rankings["rankings"] if row["p"] is not None]
    np.testing.assert_allclose([row["q"] for row in rows], q_values(np.array([row["p"] for row in rows])))
    alone = as_one_family([found.types[0]])[0]
    assert len(rows) > sum(row["p"] is not None for row in alone.rankings["rankings"])


def test_a_record_comes_back_whole(found):
    one = found.types[0]
    again = TypeEvidence.from_json(json.loads(to_json_text(one.to_json())))
    assert again.ladder == one.ladder and again.circuit == one.circuit
    assert to_json_text(again.to_json()) == to_json_text(one.to_json())


def test_a_damaged_record_is_named(found):
    whole = json.loads(to_json_text(found.types[0].to_json()))
    for damage in (
        {key: value for key, value in whole.items() if key != "doses"},
        whole | {"format": 99},
        whole | {"prediction": {"n": 3}},
        [1, 2],
    ):
        with pytest.raises(ScxError, match=r"file\.json"):
            TypeEvidence.from_json(damage, "file.json")


def test_a_saved_type_is_found_again_and_a_change_of_settings_is_another(tmp_path, monkeypatch, found):
    from scx_core.evidence.by_type import measure

    tracer, one = tiny_tracer(), found.of(OTHER)
    path = evidence_file(tracer, OTHER, CFG, [], tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(to_json_text(one.to_json()), encoding="utf-8")
    monkeypatch.setattr(measure, "measure_type", None)  # calling it would fail
    again = evidence_of_types(tracer, [OTHER], CFG, others=[], root=tmp_path)
    assert again.types[0].circuit == one.circuit
    assert saved_evidence(tracer, OTHER, replace(CFG, knocked=3), [], tmp_path) is None
    assert saved_evidence(tracer, LABEL, CFG, [], tmp_path) is None
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ScxError, match="not valid JSON"):
        saved_evidence(tracer, OTHER, CFG, [], tmp_path)


def test_a_measurement_that_was_stopped_goes_on_where_it_was(tmp_path, found):
    """What is there is not measured again, a broken part is, and the end is the same as in one go."""
    tracer = tiny_tracer()
    saved = replace(tracer, transcoders=replace(tracer.transcoders, fingerprint="saved"))
    one, asked = found.of(OTHER), {"others": tiny_others(), "root": tmp_path}

    def until_the_gradient(done, total, message=""):
        if message == f"{OTHER}: gradient":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.measure_type(saved, OTHER, CFG, **asked, progress=until_the_gradient)
    parts = evidence_file(saved, OTHER, CFG, tiny_others(), tmp_path).with_suffix(".parts")
    made = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert {path.stem for path in made} == {"rankings", "circuit", "doses", "knock-outs"}
    (parts / "doses.json").write_text("{", encoding="utf-8")

    def untouched(done, total, message=""):
        now = {path: path.stat().st_mtime_ns for path in made if path.exists()}
        assert all(made[path] == at for path, at in now.items() if path.stem != "doses")

    again = measure.measure_type(saved, OTHER, CFG, **asked, progress=untouched)
    alone = as_one_family([one])[0]
    for name in ("prediction", "rankings", "knockouts", "doses", "curves", "steadiness", "markers"):
        one_way, other = (to_json_text(getattr(each, name)) for each in (again, alone))
        assert one_way.replace('"saved"', '""') == other, name
    assert again.circuit.genes == one.circuit.genes and not parts.exists()
    assert saved_evidence(saved, OTHER, CFG, tiny_others(), tmp_path) is not None


def test_the_tables_hold_every_type_and_rival(found):
    result = json.loads(to_json_text(found.to_json()))
    for as_markdown in (False, True):
        text = evidence_tables(result, as_markdown)
        for word in (LABEL, OTHER, "gradient × input", "random, rank-matched", "got as far as", "donors"):
            assert word in text


def test_an_account_that_float32_rounds_away_is_taken_again_in_float64(monkeypatch):
    made, rows = tiny_tracer(), np.arange(2)
    lm = load_language(made.lm.source, device="cpu", dtype="float32")
    tracer = make_tracer(lm, made.transcoders.to(dtype=torch.float32), made.table)
    answer = tracer.labels[0]
    circuit = measure._circuit(tracer, answer, answer, rows, measure.TYPES)
    assert IN_FLOAT64 not in circuit.accounting and circuit.accounting["max_relative_error"] <= EXACT
    monkeypatch.setattr(measure, "EXACT", 0.0)
    again = measure._circuit(tracer, answer, answer, rows, measure.TYPES)
    assert again.accounting[IN_FLOAT64] < 1e-9
    assert again.genes == circuit.genes
