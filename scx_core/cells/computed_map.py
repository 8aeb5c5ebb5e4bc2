"""A map of cells where their file has none: UMAP of the neighbours in the principal components, by scanpy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from scx_core.cells.cell_table import CellTable
from scx_core.cells.differential import log_expression
from scx_core.environment import threads_of_torch
from scx_core.errors import ScxError
from scx_core.runs import runs_root
from scx_core.runs.files import write_atomic

MOST_CELLS, VARIABLE_GENES, COMPONENTS, NEIGHBOURS = 50_000, 2000, 30, 15


def computed_map(table: CellTable, seed: int = 0, root: Path | None = None) -> np.ndarray:
    """The map, float32 [n_cells, 2], kept under the runs for these cells and this seed.

    Log-normalised expression of the most variable genes, PCA, 15 nearest neighbours, UMAP. Raises ScxError
    for more cells than fit into memory this way, or fewer than three.
    """
    if not 3 <= table.n_cells <= MOST_CELLS:
        raise ScxError(
            f"A map is computed of 3 to {MOST_CELLS:,} cells; {table.name} has {table.n_cells:,}.",
            "Compute a UMAP with scanpy, and save it in obsm of the file.",
        )
    kept = _file(table, seed, root)
    found = kept_map(table, seed, root)
    if found is not None:
        return found
    found = _umap(table, seed)
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    write_atomic(kept, buffer.getvalue())
    return found


def kept_map(table: CellTable, seed: int = 0, root: Path | None = None) -> np.ndarray | None:
    """The map if it was computed before; a file that is damaged counts as none."""
    try:
        found = np.load(_file(table, seed, root), allow_pickle=False)
    except (ValueError, OSError):
        return None
    return found if found.shape == (table.n_cells, 2) and np.isfinite(found).all() else None


def _file(table: CellTable, seed: int, root: Path | None) -> Path:
    return (root or runs_root()) / "maps" / f"{table.fingerprint[:32]}-{seed}.npy"


def _umap(table: CellTable, seed: int) -> np.ndarray:
    import anndata as ad
    import scanpy as sc

    cells = ad.AnnData(log_expression(table, np.arange(table.n_cells)))
    mean_G = np.asarray(cells.X.mean(0)).ravel()
    variance_G = np.asarray(cells.X.multiply(cells.X).mean(0)).ravel() - mean_G**2
    order_G = np.argsort(-variance_G, kind="stable")[:VARIABLE_GENES]
    cells = cells[:, np.sort(order_G)].copy()
    most = min(COMPONENTS, cells.n_vars - 1, cells.n_obs - 1)
    with threads_of_torch():
        if most >= 2:
            sc.pp.pca(cells, n_comps=most, random_state=seed)
        sc.pp.neighbors(cells, n_neighbors=min(NEIGHBOURS, cells.n_obs - 1), random_state=seed)
        sc.tl.umap(cells, random_state=seed)
    return np.asarray(cells.obsm["X_umap"], dtype=np.float32)
