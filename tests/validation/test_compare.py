"""Runs side by side: their figures, what they cost, and which of them compare."""

import math

import pytest

from scx_core.errors import ScxError
from scx_core.runs import RunFolder, list_runs, write_json
from scx_core.training.config import TranscoderConfig
from scx_core.validation import compare_runs, comparison_provenance, trainings
from scx_core.validation.run_comparison import RunRow
from tests.validation.training_runs import a_run, record


def test_a_finished_run_has_the_figures_beside_its_set(tmp_path):
    run = a_run(tmp_path, "one", TranscoderConfig(k=8, skip=True), finished={}, records=(record(40),))
    table = compare_runs([run])
    assert list(table.columns) == list(RunRow._fields)
    (row,) = table.itertuples()
    assert (row.run, row.state, row.kind, row.setting, row.skip) == ("one", "done", "batchtopk", "k 8", True)
    assert (row.features, row.steps, row.cells, row.measured) == (64, 40, 5, "held-out")
    assert (row.l0, row.ce_recovered, row.kl, row.dead) == (8.0, 0.99, 0.02, 0.25)
    assert row.fvu == pytest.approx(0.2) and row.comparable and row.model == "m" * 12
    assert row.tokens == 40 * 16 * 100 and row.seconds == pytest.approx(64.0)


def test_what_a_run_logs_about_its_cost_goes_before_the_estimate(tmp_path):
    run = a_run(tmp_path, "one", finished={}, records=(record(40, tokens=123, seconds=4.5),))
    table = compare_runs([run])
    assert (table["tokens"][0], table["seconds"][0]) == (123, 4.5)


def test_a_run_under_way_has_its_last_measurement(tmp_path):
    measured = {"ce_recovered": 0.9, "kl": 0.3}
    records = (record(10), record(20, **measured), record(30))
    row = compare_runs([a_run(tmp_path, "one", records=records)]).iloc[0]
    assert (row["steps"], row["measured"], row["cells"]) == (30, "while training", 16)
    assert (row["ce_recovered"], row["l0"], row["state"]) == (0.9, 5.0, "new")
    assert math.isnan(row["tokens"]) and math.isnan(row["features"])
    tuned = (*records, {"step": 44, "tune_kl": 0.1, "ce_recovered": 0.95, "kl": 0.2})
    row = compare_runs([a_run(tmp_path, "tuned", records=tuned)]).iloc[0]
    assert (row["ce_recovered"], row["l0"], row["steps"]) == (0.95, 5.0, 44)
    bare = compare_runs([a_run(tmp_path, "two")]).iloc[0]
    assert math.isnan(bare["ce_recovered"]) and bare["steps"] == 0 and bare["comparable"]


@pytest.mark.parametrize(
    ("coder", "setting"),
    [
        (TranscoderConfig(kind="topk", k=32), "k 32"),
        (TranscoderConfig(kind="relu", l1=1.4e-4), "λ 0.00014"),
        (TranscoderConfig(kind="jumprelu", l0=0.002), "λ 0.002"),
        (TranscoderConfig(kind="relu", target_l0=16), "L0 16"),
    ],
)
def test_the_setting_is_what_sparsity_was_asked_for(tmp_path, coder, setting):
    assert compare_runs([a_run(tmp_path, "one", coder)])["setting"][0] == setting


def test_runs_on_something_else_are_marked_with_what_differs(tmp_path):
    runs = [
        a_run(tmp_path, "first", finished={}),
        a_run(tmp_path, "same", finished={}),
        a_run(tmp_path, "model", finished={}, model="x" * 64),
        a_run(tmp_path, "cells", finished={}, data="y" * 64, held_out=(7,)),
        a_run(tmp_path, "split", finished={}, held_out=(1, 3)),
        a_run(tmp_path, "genes", finished={}, genes=50, model="x" * 64),
    ]
    table = compare_runs(runs).set_index("run")
    assert table["why_not"].to_dict() == {
        "first": "",
        "same": "",
        "model": "another model",
        "cells": "other cells",
        "split": "other held-out cells",
        "genes": "another model, other sentences",
    }
    assert (table["comparable"] == (table["why_not"] == "")).all()
    other = compare_runs(runs, reference=runs[2]).set_index("run")
    assert other["why_not"]["model"] == "" and other["why_not"]["first"] == "another model"
    assert comparison_provenance(runs, runs[2])["model"]["fingerprint"] == "x" * 64
    assert len(comparison_provenance(runs)["runs"]) == 6


def test_label_agreement_comes_from_the_validation_of_the_same_model_and_cells(tmp_path):
    def validated(path, model="m" * 64):
        about = {"model": {"fingerprint": model}, "data": {"fingerprint": "d" * 64}}
        write_json(path, {"label_agreement": 0.75, "provenance": about})

    beside, above, other = (a_run(tmp_path, name, finished={}) for name in ("a", "b", "c"))
    validated(beside.path / "transcoders" / "validation.json")
    validated(above.path / "validation.json")
    validated(other.path / "validation.json", model="x" * 64)
    found = compare_runs([beside, above, other])["label_agreement"]
    assert found[0] == found[1] == 0.75 and math.isnan(found[2])


def test_trainings_inside_a_build_are_found_and_others_left_out(tmp_path):
    build = RunFolder.create(tmp_path, "build", {}, "built")
    a_run(build.path, "train-quick", finished={})
    about = {"model": {"fingerprint": "m" * 64}, "data": {"fingerprint": "d" * 64}}
    write_json(build.path / "validation-quick.json", {"label_agreement": 0.5, "provenance": about})
    RunFolder.create(tmp_path, "prepare", {}, "prepared")
    a_run(tmp_path, "alone")
    table = compare_runs(trainings(list_runs(tmp_path)))
    assert list(table["run"]) == ["alone", "built/train-quick"] and table["label_agreement"][1] == 0.5
    with pytest.raises(ScxError, match=r"prepared is of the kind prepare"):
        compare_runs([RunFolder.open(tmp_path / "prepared")])
    with pytest.raises(ScxError, match="no training"):
        compare_runs([])


def test_a_damaged_run_says_so_and_hides_no_other(tmp_path):
    names = ("torn", "odd", "empty", "good")
    torn, odd, empty, good = (a_run(tmp_path, name, finished={}) for name in names)
    (torn.path / "split.json").write_text("{")
    write_json(odd.path / "transcoders" / "scx.json", {"metrics": {"per_layer": 3}})
    empty.update(config={})
    table = compare_runs([torn, odd, empty, good]).set_index("run")
    assert list(table["state"]) == ["damaged", "damaged", "damaged", "done"]
    assert list(table["comparable"]) == [False, False, False, True]
    assert "split.json" in table["why_not"]["torn"] and "cannot be read" in table["why_not"]["odd"]


def test_saes_are_told_from_transcoders(tmp_path):
    coders = [TranscoderConfig(), TranscoderConfig(reads="output")]
    table = compare_runs([a_run(tmp_path, f"run {n}", coder) for n, coder in enumerate(coders)])
    assert table["form"].tolist() == ["transcoder", "sae"] and set(table["kind"]) == {"batchtopk"}
