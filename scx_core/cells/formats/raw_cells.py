"""A source of cells as found, before anything is decided: tables, matrices by name, facts and repairs; and
the fingerprint that identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scx_core.cells.formats.palettes import column_of, palette_in
from scx_core.cells.matrix import MemoryMatrix, RowMatrix
from scx_core.errors import ScxError
from scx_core.runs.files import sha256_of, size_of

ORGANISM_KEYS = ("organism", "species")
# Hashing a file of this size takes about a second; above it, the tables and spread blocks are hashed.
WHOLE_FILE = 256 * 2**20
N_BLOCKS, BLOCK_ROWS = 32, 32


@dataclass(frozen=True, eq=False)
class Store:
    """What a source holds. `matrices` maps "X", "raw" and "layers/NAME" to rows; `raw_var` goes with "raw".

    `hints` are facts outside the tables (an organism in uns, the genome of a 10x file). `notes` are
    sentences about what was left out or repaired while reading. `genome`: the one whose genes were kept
    while reading, "" where nothing was chosen by genome. `palettes`: the colours of a column's categories.
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
    palettes: dict[str, tuple[str, ...]] = field(default_factory=dict)

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
    return checked_store(replace(store, palettes=palettes_in(adata.uns)))


def palettes_in(uns: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The colours that scanpy keeps for the categories of a column."""
    named = {column_of(str(key)): palette_in(value) for key, value in uns.items() if column_of(str(key))}
    return {str(column): palette for column, palette in named.items() if palette}


def fingerprint(store: Store, labels_file: str | None = None) -> tuple[str, str]:
    """The sha256 that identifies the data, whatever is chosen from it, and how it was made in words."""
    if store.path is not None and size_of(store.path) <= WHOLE_FILE:
        digest, how = sha256_of(store.path), "of the whole file"
    else:
        digest = _of_content(store)
        how = f"of names, obs, shapes and {N_BLOCKS} blocks of {BLOCK_ROWS} rows a matrix"
    if labels_file is not None:
        joined = digest + sha256_of(Path(labels_file).expanduser())
        digest, how = hashlib.sha256(joined.encode()).hexdigest(), f"{how} and the labels file"
    return digest, how


def _of_content(store: Store) -> str:
    digest = hashlib.sha256()
    for table in (store.obs, store.var, store.raw_var):
        if table is not None:
            _add_table(digest, table)
    for name, matrix in sorted(store.matrices.items()):
        digest.update(f"{name} {matrix.shape} {matrix.n_stored}".encode())
        n = matrix.shape[0]
        starts = np.unique(np.linspace(0, max(n - BLOCK_ROWS, 0), N_BLOCKS).astype(int))
        block = matrix.rows(np.unique(np.concatenate([np.arange(s, min(s + BLOCK_ROWS, n)) for s in starts])))
        block.sum_duplicates()
        for part in (block.indptr.astype(np.int64), block.indices.astype(np.int64), block.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _add_table(digest: Any, table: pd.DataFrame) -> None:
    digest.update("\0".join(map(str, table.columns)).encode())
    columns = [table.index.to_series(), *(table.iloc[:, place] for place in range(table.shape[1]))]
    for column in columns:
        if column.dtype.kind in "biuf":
            digest.update(np.ascontiguousarray(column).tobytes())
            continue
        # Equal values must hash alike, whether they are stored as text or as categories.
        codes, distinct = pd.factorize(np.asarray(column))
        digest.update(codes.astype(np.int64).tobytes() + "\0".join(map(str, distinct)).encode())
