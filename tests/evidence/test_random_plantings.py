"""Random plantings: what is drawn, knock-outs in pairs on a known function, tables, a tiny model whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scx_core.build.plantings import PlantingsConfig, run_plantings
from scx_core.cells import planted_cells
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.influence import gene_influences
from scx_core.evidence.planting_tables import planting_text, recovery_table
from scx_core.evidence.random_plantings import KIND_WORDS, NEAR, ScoreConfig, draw_pool

TINY = PlantingsConfig(
    plantings=3, permuted=0, readings=96, drawn=700, width=16, coder_steps=2, tuned_steps=0,
    score=ScoreConfig(cells=2, features=False),
)  # fmt: skip


def test_each_model_has_one_rule_of_each_kind_and_draws_are_its_own():
    pools = [draw_pool(number, 0) for number in range(5)]
    again = draw_pool(3, 0)
    assert [one.rule.genes for one in again.plantings] == [one.rule.genes for one in pools[3].plantings]
    for pool in pools:
        assert {one.kind for one in pool.plantings} == set(KIND_WORDS)
        for one in pool.plantings:
            assert len(set(one.rule.genes) | {one.rule.passenger}) == len(one.rule.genes) + 1
            assert one.rule.marker not in pool.genes
            assert set(one.rule.genes) <= set(pool.genes)
    assert len({one.rule.genes for pool in pools for one in pool.plantings}) > 15


def test_cells_obey_the_rules_and_near_misses_come_more_often():
    pool = draw_pool(0, 1)
    cells = planted_cells(3000, 0, pool.rules, pool.genes, NEAR)
    there = {gene: cells[:, gene].X.toarray().ravel() > 0 for gene in cells.var_names}
    rows = {gene: held.tolist() for gene, held in there.items()}
    for one in pool.plantings:
        own = (cells.obs["rule"] == one.rule.name).to_numpy()
        assert (there[one.rule.marker] == own).all()
        on = np.array([one.rule.active(*row) for row in zip(*(rows[g] for g in one.rule.genes), strict=True)])
        assert set(cells.obs["label"][own & on]) == {one.rule.labels[0]}
        assert set(cells.obs["label"][own & ~on]) == {one.rule.labels[1]}
        if one.kind == "both":  # off: 10 and 01 four times as often as 00
            none = ~there[one.rule.genes[0]] & ~there[one.rule.genes[1]]
            assert (own & none).sum() / (own & ~on).sum() == pytest.approx(1 / 9, abs=0.04)


class _Function:
    """What a measurer offers, of a function of the genes that are there."""

    def __init__(self, genes, value):
        self.genes, self.value = genes, value
        self.editor = self

    def sentence(self, row):
        return type("S", (), {"cell": type("C", (), {"genes": self.genes[row]})})

    def together(self, row, sets):
        kept = [set(self.genes[row]) - set(out) for out in [(), *sets]]
        target = np.array([float(self.value(one)) for one in kept])
        return type("V", (), {"target": target}), []


def test_pairs_find_genes_that_stand_for_each_other_where_single_knock_outs_find_none():
    measurer = _Function(
        [["A", "B", "C"]], lambda there: 4.0 * bool(there & {"A", "B"}) + 0.1 * ("C" in there)
    )
    alone, joint = gene_influences(measurer, [0])
    assert alone == pytest.approx({"C": 0.1, "A": 0.0, "B": 0.0})
    # Contexts of A: alone 0, beside B 4, beside C 0.
    assert joint == pytest.approx({"A": np.sqrt(16 / 3), "B": np.sqrt(16 / 3), "C": 0.1})
    assert list(joint)[:2] == ["A", "B"]


def test_one_gene_stays_in_every_sentence():
    measurer = _Function([["A", "B"], ["A"]], lambda there: 2.0 * ("A" in there) / len(there))
    alone, joint = gene_influences(measurer, [0, 1])  # no reading without a gene: it would divide by 0
    assert alone == joint == pytest.approx({"A": np.sqrt(1 / 2), "B": np.sqrt(1 / 2)})


def test_a_cell_without_a_gene_counts_as_no_influence():
    measurer = _Function([["A", "B"], ["B", "C"]], lambda there: 2.0 * ("A" in there))
    alone, joint = gene_influences(measurer, [0, 1])
    assert alone["A"] == joint["A"] == pytest.approx(np.sqrt(4 / 2))
    assert alone["B"] == joint["B"] == 0


def _planting(number, kind, exact, **more):
    method = {"exact": exact, "hits": 2 * exact, "n": 2, "strongest": [["A", 2.0], ["X", 1.0], ["B", 0.5]]}
    one = {
        "planting": number, "kind": kind, "genes": ["A", "B"], "passenger": "X", "right": 100, "tried": 100,
        "methods": {"influence": method}, "circuit": None, "skipped": "", "permuted": False,
        "table_genes": 11, "cpu_seconds": 1.0,
    }  # fmt: skip
    return one | more


def test_what_was_not_learned_or_not_scored_counts_as_missed():
    plantings = [
        _planting(0, "both", True),
        _planting(1, "both", False, right=60),
        _planting(2, "unless", False, methods={}, skipped="the model calls too few cells right", right=2),
        _planting(0, "both", False, permuted=True),
    ]
    found = recovery_table(plantings)
    whole = found["methods"]["influence"]
    assert (whole["all"]["k"], whole["all"]["n"]) == (1, 3)
    assert (whole["learned"]["k"], whole["learned"]["n"]) == (1, 1)
    assert (whole["permuted"]["k"], whole["permuted"]["n"]) == (0, 1)
    assert found["not_learned"] == [1, 2]
    assert found["chance"] == pytest.approx(1 / 45)  # 2 of the 10 genes that are no marker
    assert [one["planting"] for one in found["missed"]["influence"]] == [1, 2]
    text = planting_text(found)
    assert "named A, X" in text and "the model calls too few cells right" in text
    assert "0.333 [0.061, 0.792]" in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plantings") / "all"


def test_a_run_goes_on_where_it_was_and_keeps_to_its_settings(folder):
    found = run_plantings(folder, TINY)
    assert [one["planting"] for one in found] == [0, 1, 2]  # the model's fourth is not asked for
    files = sorted(folder.glob("planting-*.json"))
    assert len(files) == 4
    before = [path.stat().st_mtime_ns for path in files]
    assert run_plantings(folder, TINY) == found
    assert [path.stat().st_mtime_ns for path in files] == before
    assert json.loads(files[0].read_text())["tried"] > 0
    with pytest.raises(ScxError, match="other settings"):
        run_plantings(folder, PlantingsConfig(readings=97))


def test_the_control_is_scored_although_its_model_is_right_by_chance(folder):
    *_, control = run_plantings(folder, replace(TINY, permuted=1))
    assert control["permuted"] and control["skipped"] == "not asked for", "of the features alone"
    assert control["methods"]["influence"]["strongest"]
