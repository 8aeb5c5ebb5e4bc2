"""The evidence page: nothing measured, measured before, damaged; the ladder comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import scx_core as scx
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.runs.files import to_json_text
from tests.builders.evidence import OTHER, tiny_evidence
from tests.pages.running import button, open_page, pick, said, well


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
    assert {"Report", "Report, PDF", "Record, JSON"} <= set(labels)
    assert button(app, "Measure again")
    assert len(app.dataframe) >= 6


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
