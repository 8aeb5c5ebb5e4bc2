"""A source of cells as found, before anything is decided: tables, matrices by name, facts and repairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from scx_core.cells.matrix import MemoryMatrix, RowMatrix
from scx_core.errors import ScxError

ORGANISM_KEYS = ("organism", "species")


@dataclass(frozen=True, eq=False)
class Store:
    """What a source holds. `matrices` maps "X", "raw" and "layers/NAME" to rows; `raw_var` goes with "raw".

    `hints` are facts outside the tables (an organism in uns, the genome of a 10x file). `notes` are
    sentences about what was left out or repaired while reading. `genome`: the one whose genes were kept
    while reading, "" where nothing was chosen by genome.
    """

    name: str
    path: Path | None
    format: str
    obs: pd.DataFrame
    var: pd.DataFrame
    matrices: dict[str, RowMatrix]
    raw_var: pd.DataFrame | None = None
    hints: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    genome: str = ""

    def var_of(self, values: str) -> pd.DataFrame:
        """The gene table that belongs to a matrix."""
        return self.raw_var if values == "raw" and self.raw_var is not None else self.var


def checked_store(store: Store) -> Store:
    """The store, with plain columns. ScxError when it has no cells, no genes or no matrix, or when
    a matrix has another shape than the tables."""
    if not len(store.obs):
        raise ScxError(f"{store.name} has no cells (obs is empty).", "Check the filtering that wrote it.")
    if not store.matrices:
        raise ScxError(f"{store.name} has no expression matrix (X, raw or a layer).", "Save it with X.")
    store = _fitting(store)
    raw_var = None if store.raw_var is None else _plain_columns(store.raw_var)
    return replace(store, obs=_plain_columns(store.obs), var=_plain_columns(store.var), raw_var=raw_var)


def _fitting(store: Store) -> Store:
    """The store with the matrices that fit its tables. ScxError when X, or the only one, does not."""
    fits, notes = {}, list(store.notes)
    for values, matrix in store.matrices.items():
        var = store.var_of(values)
        if not len(var):
            raise ScxError(f"{store.name} has no genes (var is empty).", "Check the filtering that wrote it.")
        if matrix.shape == (len(store.obs), len(var)):
            fits[values] = matrix
            continue
        table = "raw.var" if values == "raw" else "var"
        problem = (
            f"{values} is {matrix.shape[0]:,} × {matrix.shape[1]:,}, but obs has {len(store.obs):,} rows and "
            f"{table} has {len(var):,}"
        )
        if values == "X" or len(store.matrices) == 1:
            raise ScxError(
                f"{store.name}: shapes disagree. {problem}.", "Write the file again from one AnnData object."
            )
        notes.append(f"{problem}: it is left out.")
    return replace(store, matrices=fits, notes=tuple(notes))


def _plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns have names that are text and different, and values that can be compared."""
    table = table.loc[:, ~table.columns.astype(str).duplicated()]
    table = table.set_axis(table.columns.astype(str), axis=1)
    # Lists and dicts cannot be counted or compared; pandas calls such columns mixed.
    odd = [name for name in table.columns if pd.api.types.infer_dtype(table[name], skipna=True) == "mixed"]
    return table.assign(**{name: table[name].astype(str) for name in odd})


def from_anndata(adata: Any, name: str, path: Path | None, format_name: str) -> Store:
    """The store of an AnnData object; a backed one is read into memory."""
    if adata.isbacked:
        adata = adata.to_memory()
    matrices: dict[str, RowMatrix] = {} if adata.X is None else {"X": MemoryMatrix(adata.X)}
    raw_var = None
    if adata.raw is not None:
        matrices["raw"], raw_var = MemoryMatrix(adata.raw.X), adata.raw.var.copy()
    notes = []
    for key, value in adata.layers.items():
        try:
            matrices[f"layers/{key}"] = MemoryMatrix(value)
        except ScxError as error:
            notes.append(f"layers/{key} is no expression and is left out: {error.problem}")
    hints = {f"uns['{key}']": adata.uns[key] for key in ORGANISM_KEYS if isinstance(adata.uns.get(key), str)}
    tables = adata.obs.copy(), adata.var.copy()
    store = Store(name, path, format_name, *tables, matrices, raw_var, hints, tuple(notes))
    return checked_store(store)
