"""The evidence page: nothing measured, measured before, damaged; the ladder comes first."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import scx_core as scx
from scx_core.cells import open_cells
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.runs import RunFolder, cached
from scx_core.runs.files import to_json_text
from scx_core.transcoders import EMBEDDED_SETS
from tests.builders.evidence import OTHER, tiny_evidence
from tests.pages.running import button, open_page, pick, said, starting, well

TWO, EACH = ("CD14+ Monocyte", "Dendritic"), 20  # types of a small file, each with enough cells


@pytest.fixture
def record(runs: Path) -> Path:
    """Where the record of the largest embedded type lies."""
    tracer = scx.tl.tracer("embedded")
    path = evidence_file(tracer, OTHER, TypesConfig(), siblings(tracer), runs)
    path.parent.mkdir(parents=True)
    return path


def test_nothing_is_measured_yet(runs: Path) -> None:
    app = well(open_page("evidence"))
    assert "Nothing is measured yet" in said(app)
    assert pick(app, "Cell type").value == OTHER
    assert button(app, "Measure")


def test_the_type_whose_circuit_was_looked_at_is_asked_about_first(runs: Path) -> None:
    app = open_page("start")
    app.session_state["scx_kept"] = {"label": "CD19+ B"}  # as the page Circuits leaves it
    assert pick(well(open_page("evidence", app)), "Cell type").value == "CD19+ B"


def test_the_ladder_is_the_first_thing_seen(record: Path) -> None:
    found = tiny_evidence().of(OTHER)
    record.write_text(to_json_text(found.to_json()), encoding="utf-8")
    app = well(open_page("evidence"))
    words = said(app)
    assert found.ladder.words in words and "Nothing is measured" not in words
    for part in (
        "exact account of the frozen model",
        "Joint knock-outs beside rivals",
        "What changes with what",
    ):
        assert part in words
    labels = [element.proto.label for element in app.get("download_button")]
    assert {"Report", "Record, JSON"} <= set(labels) and starting(app, "Report, PDF: about")
    assert button(app, "Measured").disabled
    assert len(app.dataframe) >= 6


def test_the_report_for_print_is_made_by_a_job_and_found_again(
    record: Path, runs: Path, at_once: list[str]
) -> None:
    found = tiny_evidence().of(OTHER)
    record.write_text(to_json_text(found.to_json()), encoding="utf-8")
    app = well(open_page("evidence"))
    assert "Report, PDF" not in [element.proto.label for element in app.get("download_button")]
    for session in (well(starting(app, "Report, PDF").click().run()), well(open_page("evidence"))):
        assert "Report, PDF" in [element.proto.label for element in session.get("download_button")]
    (file,) = (runs / "reports").iterdir()
    assert file.read_bytes().startswith(b"%PDF-") and len(at_once) == 1
    again = found._replace(further=[], seconds=found.seconds | {"circuit": 99.0})
    record.write_text(to_json_text(again.to_json()), encoding="utf-8")
    assert starting(well(open_page("evidence")), "Report, PDF: about"), "another record, another report"


def test_answers_that_belong_are_offered_and_count_only_while_they_are_chosen(
    record: Path, runs: Path
) -> None:
    found, tracer = tiny_evidence().of(OTHER), scx.tl.tracer("embedded")
    record.write_text(to_json_text(found.to_json()), encoding="utf-8")
    one = {"what": "genes", "label": OTHER, "first": "here", "second": "there", "shared": 9, "top": 20,
           "expected": {"names of the same level": 2.0}, "p": {"names of the same level": 0.004},
           "n_first": 20, "n_second": 12}  # fmt: skip
    answer = {"overlaps": [one], "accuracy": [], "provenance": tracer.about({})}
    other = answer | {"provenance": tracer.about({}) | {"model": {"fingerprint": "another"}}}
    for result in (answer, other):
        cached("transfer", result["provenance"], lambda result=result: result)
    app = well(open_page("evidence"))
    boxes = [box for box in app.checkbox if "another study" in box.label]
    assert len(boxes) == 1 and "strongest genes in here" in boxes[0].label
    assert "9 of the 20 strongest genes" in said(app)
    well(boxes[0].set_value(False).run())
    assert "9 of the 20 strongest genes" not in said(app)


def test_a_measurement_is_a_job_that_every_visit_finds(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started, seen running by another session, stopped, gone on; the form starts no second one."""
    started: list[str] = []
    monkeypatch.setattr(
        "scx_core.runs.background.start", lambda run: started.append(run.name) or _running(run)
    )
    app = well(open_page("evidence"))
    well(button(app, "Measure").click().run())
    assert len(started) == 1
    other = well(open_page("evidence"))
    assert "running" in said(other) and button(other, "Measure").disabled
    assert button(other, "Stop")
    run = RunFolder.open(runs / "evidence" / "jobs" / started[0])
    assert (run.config["label"], run.kind, run.argv[:2]) == (OTHER, "evidence", ["evidence", "types"])
    _running(run, "stopped")
    again = well(open_page("evidence"))
    assert "stopped" in said(again) and button(again, "Resume") and not button(again, "Measure").disabled
    _running(run, "failed", error="The disk is full.")
    assert "The disk is full." in said(well(open_page("evidence")))


def _running(run: RunFolder, state: str = "running", error: str = "") -> None:
    run.write_status(state, 3, 10, "Dendritic: circuit", error=error)


def test_a_damaged_record_is_said_and_can_be_measured_again(record: Path) -> None:
    record.write_text('{"format": 1, "label": "Dendritic"}', encoding="utf-8")
    app: AppTest = well(open_page("evidence"))
    words = said(app)
    assert record.name in words and "measure again" in words
    assert button(app, "Measure")


def test_no_data_is_one_message(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCX_DATA", str(tmp_path / "nowhere.h5ad"))
    app = well(open_page("evidence"))
    assert app.error and "nowhere.h5ad" in said(app)


def test_a_set_of_another_model_is_one_message(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCX_TRANSCODERS", str(EMBEDDED_SETS["planted"]))
    app = well(open_page("evidence"))
    assert app.error and not [one for one in app.button if one.label == "Measure"]


def test_no_more_types_are_offered_together_than_there_are(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_cells("embedded")
    rows = [row for name in TWO for row in np.flatnonzero(table.labels == name)[:EACH].tolist()]
    obs = pd.DataFrame({"cell_type": table.labels[rows]}, index=[f"c{row}" for row in rows])
    path = tmp_path / "two.h5ad"
    anndata.AnnData(table.matrix.rows(rows), obs, pd.DataFrame(index=table.symbols)).write_h5ad(path)
    monkeypatch.setenv("SCX_DATA", str(path))
    assert starting(well(open_page("evidence")), "Measure the 2 largest")
