"""A file of one's own, in a real browser: from its columns to a trained set, its validation and a circuit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import pandas as pd
import pytest

from scx_core.cells import open_cells
from scx_core.runs import list_runs, stop
from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
FILE = '[data-testid="stMainBlockContainer"] [data-testid="stFileUploader"] input'
COLUMN = "Befund, 2. Lesung"
NAMES = {"CD19+ B": "b lymphos (gate 3)", "CD56+ NK": "killers", "CD14+ Monocyte": "adherent ones"}
EACH, STEPS = 20, 20  # cells of a type, steps of training


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Cells under names of their own, in a column that no detection knows."""
    table = open_cells("embedded")
    rows = [int(row) for name in NAMES for row in (table.labels == name).nonzero()[0][:EACH]]
    obs = pd.DataFrame({COLUMN: [NAMES[table.labels[row]] for row in rows], "well": [f"W{r}" for r in rows]})
    obs.index = [f"own-{row}" for row in rows]
    path = tmp_path / "own cells.h5ad"
    anndata.AnnData(table.matrix.rows(rows), obs, pd.DataFrame(index=table.symbols)).write_h5ad(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    runs = tmp_path / "runs"
    yield runs
    for run in list_runs(runs):
        if run.status().state == "running":
            stop(run)


def test_own_file_columns_labels_training_validation_circuit_files(
    own: Path, place: Path, tmp_path: Path
) -> None:
    with server.app(place) as address, server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/data")
        _upload(page, own)
        _map(page)
        _train(page)
        _validate(page)
        _circuit(page, tmp_path)
        walk.no_errors(page)
    assert not outside


def _upload(page: Page, file: Path) -> None:
    """The file, the column of its cell types, and into use."""
    walk.at_rest(page)
    page.get_by_test_id("stButtonGroup").get_by_text("Upload", exact=True).click()
    page.get_by_text("Choose an .h5ad or a 10x .h5 file").wait_for()
    walk.at_rest(page)
    page.locator(FILE).set_input_files(file)
    page.get_by_text("No cell types yet.").wait_for()
    walk.at_rest(page)
    page.get_by_role("combobox", name=re.compile("Cell types")).click()
    page.get_by_role("option", name=COLUMN, exact=True).click()
    page.get_by_text("3 cell types").first.wait_for()
    walk.at_rest(page)
    _press(page, "Use these cells")
    page.get_by_text("in use", exact=True).first.wait_for()


def _press(page: Page, name: str) -> None:
    walk.at_rest(page)
    page.get_by_role("button", name=name, exact=True).click()
    walk.at_rest(page)
    walk.no_errors(page)


def _go(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
    page.get_by_role("heading", name=re.compile(f"^{name}")).first.wait_for()
    walk.at_rest(page)


def _map(page: Page) -> None:
    """One answer by hand, the others as the model proposes them, into use."""
    page.get_by_text("0 of 3 types have an answer. Without one").wait_for()
    walk.at_rest(page)
    answer = page.get_by_role("combobox", name=re.compile("Answer for killers"))
    answer.click()
    answer.fill("CD56")  # what is far down a list is found by typing
    page.get_by_role("option", name="CD56+ NK", exact=True).click()
    _press(page, "Propose answers")
    page.get_by_text("the model writes “CD19+ B” for").wait_for()
    _press(page, "Use this mapping")
    page.get_by_text("3 of 3 types have an answer.").wait_for()


def _train(page: Page) -> None:
    """Twenty steps of the quick preset for the model that answers, then its transcoders into use."""
    _go(page, "Train")
    page.get_by_text("Stand-ins for every MLP of").wait_for()  # for the model that was mapped to, unasked
    card = page.locator('[data-testid="stVerticalBlock"]').filter(has_text="Quick look")
    card.last.get_by_role("button", name=re.compile("^Choose ")).click()
    page.get_by_role("spinbutton", name="Steps", exact=True).wait_for()
    walk.at_rest(page)
    steps = page.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill(str(STEPS))
    steps.press("Enter")
    _press(page, "Start training")
    page.get_by_role("button", name="Use these transcoders").wait_for()
    _press(page, "Use these transcoders")


def _validate(page: Page) -> None:
    _go(page, "Validate")
    page.get_by_text("Nothing is measured yet").wait_for()
    _press(page, "Measure")
    page.get_by_text("CE recovered").first.wait_for()
    page.get_by_role("button", name="Measure again").wait_for()
    walk.no_errors(page)


def _circuit(page: Page, folder: Path) -> None:
    """The circuit of a type under its own name, which says what the model answers, and all its files."""
    _go(page, "Circuits")
    page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
    page.get_by_text("CD14+ Monocyte over 20 cells of the type, which the data call adherent ones").wait_for()
    warned = page.get_by_text("Do not read circuits from these transcoders yet")  # after twenty steps
    warned.first.wait_for()
    walk.at_rest(page)
    for kind in walk.EXPORTS:
        walk.check_file(kind, walk.download(page, kind, folder))
