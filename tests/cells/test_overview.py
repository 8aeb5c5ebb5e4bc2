"""Genes per cell and the file's own map, for each kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scx_core.cells import open_cells
from scx_core.cells.opening import cell_map, genes_per_cell
from tests.cells.good_cells import as_tenx_mtx, good_cells


def test_genes_per_cell_are_counted_and_sampled(tmp_path: Path) -> None:
    adata = good_cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    table = open_cells(tmp_path / "cells.h5ad")
    assert genes_per_cell(table).tolist() == (adata.X.toarray() > 0).sum(1).tolist()
    some = genes_per_cell(table, at_most=10, seed=1)
    assert len(some) == 10 and some.tolist() == genes_per_cell(table, at_most=10, seed=1).tolist()


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_the_map_is_the_files_own(ending: str, tmp_path: Path) -> None:
    adata = good_cells()
    xy = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype(np.float32)
    adata.obsm["X_umap"] = xy
    path = tmp_path / f"cells.{ending}"
    getattr(adata, f"write_{ending}")(path)
    name, found = cell_map(open_cells(path))
    assert name == "X_umap"
    np.testing.assert_array_equal(found, xy[:, :2])


def test_no_map_is_none(tmp_path: Path) -> None:
    adata = good_cells()
    adata.obsm["X_umap"] = np.full((adata.n_obs, 2), np.nan)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert cell_map(open_cells(tmp_path / "cells.h5ad")) is None
    folder = as_tenx_mtx(good_cells(), tmp_path / "mtx")
    assert cell_map(open_cells(folder, require_labels=False)) is None
    assert cell_map(open_cells(good_cells())) is None


def test_the_embedded_cells_have_one_in_the_old_layout() -> None:
    name, xy = cell_map(open_cells("embedded"))
    assert (name, xy.shape) == ("X_umap", (700, 2))
