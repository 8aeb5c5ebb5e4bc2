"""Every bad input is rejected by one message with its culprit and a remedy, or repaired with a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from scx_core.cells import CellChoices, open_cells
from scx_core.errors import ScxError
from tests.cells.bad_files import BAD_FILES, can_make, choices_for

REJECTED = [name for name, bad in BAD_FILES.items() if bad.outcome == "rejected"]
REPAIRED = [name for name, bad in BAD_FILES.items() if bad.outcome == "repaired"]


def test_there_are_enough() -> None:
    assert len(REJECTED) >= 25


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(name: str, tmp_path: Path) -> None:
    if not can_make(name):
        pytest.skip("nothing is unreadable for root")
    path = BAD_FILES[name].make(tmp_path)
    with pytest.raises(ScxError) as caught:
        open_cells(path, CellChoices(**choices_for(name, tmp_path)))
    for words in BAD_FILES[name].words:
        assert words in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", REPAIRED)
def test_repaired(name: str, tmp_path: Path) -> None:
    path = BAD_FILES[name].make(tmp_path)
    table = open_cells(path, CellChoices(**choices_for(name, tmp_path)))
    told = " ".join(f"{found.choice} {found.evidence}" for found in table.findings)
    for words in BAD_FILES[name].words:
        assert words in told
    assert len(set(table.cell_ids)) == table.n_cells
    assert len(set(table.symbols)) == table.n_genes
    assert table.rows(range(table.n_cells)).shape == (table.n_cells, table.n_genes)
