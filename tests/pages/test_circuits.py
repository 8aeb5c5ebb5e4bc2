"""The circuit page: choose, look, take away; nothing is traced twice."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.common.charts import grey_words
from scx_core.cells import open_cells
from scx_core.circuits import Tracer
from scx_core.runs import RunFolder
from scx_core.tasks.makers import so_far
from scx_core.tasks.task import PLACE
from tests.pages.pictures import words as picture_words
from tests.pages.running import open_page, pick, said, starting, well

FEW = 2
SIZES = {"CD19+ B": 4, "CD34+": 1, "Dendritic": 3}  # cells of a type, of a small file


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is traced while a test runs."""
    seen: list[str] = []
    for name in ("consensus", "cell"):
        whole = getattr(Tracer, name)

        def noted(self: Tracer, *args, whole=whole, name=name, **more):
            seen.append(name)
            return whole(self, *args, **more)

        monkeypatch.setattr(Tracer, name, noted)
    return seen


def page(app: AppTest | None = None) -> AppTest:
    return well(open_page("circuits", app))


def test_the_default_is_the_consensus_of_b_cells(runs: Path) -> None:
    app = page()
    words = said(app)
    assert pick(app, "Cell type").value == "CD19+ B"
    assert "CD19+ B over 30 cells" in words.replace("**", "")
    for part in ("What the score is made of", "Prompt words", "Reconstruction errors", "accounting error"):
        assert part in words
    assert "CD79A" in picture_words(app)
    table = app.dataframe[0].value
    columns = {"gene", "frozen_attribution", "share_of_cells", "rank", "known_marker", "marker_of"}
    assert columns <= set(table.columns)
    assert "B cell" in table.set_index("gene").loc["CD79A", "marker_of"]


def test_one_cell_says_what_the_data_and_the_model_call_it(runs: Path) -> None:
    app = page()
    pick(app, "Cells").set_value("One cell").run()
    words = said(well(app))
    assert "in one cell" in words and "The data call it CD19+ B" in words
    assert "highest expression first" in words


def test_a_competitor_is_named(runs: Path) -> None:
    app = page()
    pick(app, "Cells").set_value("One cell").run()
    pick(app, "Against").set_value("Dendritic").run()
    assert "CD19+ B against Dendritic" in said(well(app))


def test_nothing_is_traced_twice(runs: Path, traces: list[str]) -> None:
    app = page()
    app.number_input(key="kept cells").set_value(FEW).run()
    before = len(traces)
    pick(app, "Size in print").set_value("column").run()  # another drawing of the same circuit
    app = page(open_page("validate", app))  # and back
    assert app.number_input(key="kept cells").value == FEW
    assert pick(app, "Size in print").value == "column"
    assert len(traces) == before


def test_every_format_is_made_from_the_circuit_that_is_shown(runs: Path, traces: list[str]) -> None:
    from pages.parts.circuits.entry import LAST
    from pages.parts.circuits.view import maker

    app = page()
    circuit, view, _ = app.session_state[LAST]
    before = len(traces)
    labels = [element.proto.label for element in app.get("download_button")]
    for name in ("PNG", "SVG", "PDF", "HTML", "GraphML", "JSON", "CSV"):
        assert name in labels
        assert len(maker(circuit, name.lower(), view)()) > 500
    assert len(traces) == before


def test_transcoders_of_another_model_are_refused_in_words(runs: Path, tmp_path: Path, monkeypatch) -> None:
    from tests.tiny import save_tiny

    monkeypatch.setenv("SCX_MODEL", str(save_tiny(tmp_path / "tiny")))
    app = page()
    assert app.error
    assert "layers" in said(app)


def test_a_consensus_of_minutes_waits_for_a_button_and_what_is_known_is_told(
    runs: Path, traces: list[str], at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracer, "in_two_steps", lambda self, cfg: True)
    few = 7  # traced by no other test, so nothing is remembered
    app = page()
    app.number_input(key="kept cells").set_value(few).run()
    assert "take minutes" in said(app) and not traces
    starting(app, f"Trace {few} cells").click().run()
    words = said(well(app)).replace("**", "")
    assert f"CD19+ B over {few} cells" in words and traces == ["consensus"]
    (job,) = at_once
    known = so_far(RunFolder.open(runs / PLACE / "jobs" / job))
    assert known is not None and known["edges"] == known["cells"] == few and known["genes"]
    assert len(list((runs / "consensus").glob("*/edges-*.json"))) == few


def test_a_type_with_one_cell_leaves_the_next_type_its_consensus(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_cells("embedded")
    rows = [int(row) for name, n in SIZES.items() for row in np.flatnonzero(table.labels == name)[:n]]
    obs = pd.DataFrame({"cell_type": table.labels[rows]}, index=[f"c{row}" for row in rows])
    path = tmp_path / "few.h5ad"
    anndata.AnnData(table.matrix.rows(rows), obs, pd.DataFrame(index=table.symbols)).write_h5ad(path)
    monkeypatch.setenv("SCX_DATA", str(path))
    app = page()
    assert "over 4 cells" in said(app)
    pick(app, "Cell type").set_value("CD34+").run()
    assert "in one cell" in said(well(app)) and pick(app, "Cells").options == ["One cell"]
    pick(app, "Cell type").set_value("CD19+ B").run()
    assert "over 4 cells" in said(well(app)), "nobody asked for one cell of this type"


def test_grey_bars_whose_own_interval_leaves_zero_out_are_explained() -> None:
    """q counts all genes, an interval one."""
    rows = pd.DataFrame(
        {
            "direction": ["raises", "not told from 0", "not told from 0", "not told from 0"],
            "low": [0.5, 0.1, -0.3, -0.2],
            "high": [0.9, 0.4, -0.1, 0.3],
        }
    )
    assert "Of 2 grey bars" in grey_words(rows)
    assert grey_words(rows[rows["direction"] == "raises"]) == "" and grey_words(rows[["direction"]]) == ""
