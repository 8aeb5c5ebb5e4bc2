"""What the pages keep is known by content: a file changed under its path, a circuit at an old address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pages.parts.circuits import entry
from pages.parts.common import loaders
from pages.parts.common.results import Memory
from scx_core.cells import CellChoices
from scx_core.figures import View
from tests.figures.fakes import cell_circuit


def test_a_mapping_that_changes_under_its_path_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    choices, found = CellChoices(answers=str(path)), []
    for answer in ("B cell", "NK cell"):
        path.write_text(json.dumps({"CD19+ B": answer}))
        found.append(loaders.opened("embedded", choices))
    assert [table.given_answers["CD19+ B"] for table in found] == ["B cell", "NK cell"]
    keys = [loaders.cells_key(table) for table in found]
    assert keys[0] != keys[1] and keys[1] == loaders.cells_key(loaders.opened("embedded", choices))


def test_a_picture_belongs_to_its_circuit_and_not_to_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def drawn(circuit, *_args, **_options) -> bytes:
        made.append(circuit.n_cells)
        return str(circuit.n_cells).encode()

    monkeypatch.setattr("scx_core.figures.export_bytes", drawn)
    monkeypatch.setattr(entry, "_PICTURES", Memory(64))
    circuit = cell_circuit()
    for n in range(12):  # each is dropped before the next is made, which may get its address
        assert entry.picture_of(circuit._replace(n_cells=n), View(), None) == str(n).encode()
    entry.picture_of(circuit._replace(n_cells=11), View(), None)
    assert made == list(range(12)), "an equal circuit is not drawn again"
