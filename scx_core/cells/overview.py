"""What a person wants to see of a cell table before using it: genes per cell, and the map of the cells."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import zarr

from scx_core.cells.formats.guarded_reads import reading

from .cell_table import CellTable

MAPS = ("X_umap", "umap", "X_UMAP", "UMAP", "X_tsne", "X_pca")
BLOCK = 2048


def genes_per_cell(table: CellTable, at_most: int = 5000, seed: int = 0) -> np.ndarray:
    """Genes above 0 of each cell, int [n]; of `at_most` cells, drawn with the seed, when there are more."""
    rows = np.arange(table.n_cells)
    if table.n_cells > at_most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False))
    blocks = [table.rows(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
    return np.concatenate([(block > 0).sum(1).A1 for block in blocks])


def cell_map(table: CellTable) -> tuple[str, np.ndarray] | None:
    """The file's own map of its cells: its name in obsm and [n_cells, 2]; None without one."""
    if table.path is None or not table.path.exists():
        return None
    with reading(table.path.name):
        if table.path.is_dir():
            is_zarr = any((table.path / name).exists() for name in ("zarr.json", ".zgroup"))
            return _pick(zarr.open_group(str(table.path), mode="r"), table.n_cells) if is_zarr else None
        if not h5py.is_hdf5(table.path):
            return None
        with h5py.File(table.path, "r", locking="best-effort") as file:
            return _pick(file, table.n_cells)


def _pick(group: Any, n_cells: int) -> tuple[str, np.ndarray] | None:
    maps = group.get("obsm", {})
    if isinstance(maps, h5py.Dataset):  # before anndata 0.7: one table with a column of vectors a map
        maps = {} if maps.dtype.names is None else {name: maps[name] for name in maps.dtype.names}
    for name in MAPS:
        found = maps.get(name)
        shape = getattr(found, "shape", None)  # a table or a sparse matrix has none, and is no map
        if shape is not None and len(shape) == 2 and shape[0] == n_cells and shape[1] >= 2:
            xy = np.asarray(found[:, :2], dtype=np.float32)
            return (name, xy) if np.isfinite(xy).all() else None
    return None
