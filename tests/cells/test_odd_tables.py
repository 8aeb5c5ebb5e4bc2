"""Tables that only Python can hold, cut files, and the fingerprint of files too big to hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scx_core.cells import open_cells
from scx_core.cells.formats import raw_cells
from scx_core.errors import ScxError
from tests.cells.good_cells import good_cells


def _lists(adata: ad.AnnData) -> None:
    adata.obs["places"] = [[1, 2]] * adata.n_obs


def _twice(adata: ad.AnnData) -> None:
    adata.obs = pd.concat([adata.obs, adata.obs[["cell_type"]]], axis=1)


def _number_as_name(adata: ad.AnnData) -> None:
    adata.obs[5] = "x"


def _booleans(adata: ad.AnnData) -> None:
    adata.X = sp.csr_matrix(adata.X > 0)


def _layer_only(adata: ad.AnnData) -> None:
    adata.layers["counts"] = adata.X.toarray().astype("i2")
    adata.X = None


def _text_type(adata: ad.AnnData) -> None:
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("string")


@pytest.mark.parametrize("change", [_lists, _twice, _number_as_name, _booleans, _layer_only, _text_type])
def test_opened_all_the_same(change: Callable[[ad.AnnData], None]) -> None:
    adata = good_cells()
    change(adata)
    table = open_cells(adata)
    assert table.types == ["B cell", "NK cell", "monocyte"]
    assert table.rows([0, 1]).shape == (2, 50)


def test_whole_numbers_stay_whole_as_labels() -> None:
    adata = good_cells()
    adata.obs["cell_type"] = pd.array([1, None, 3] * 40, dtype="Int64")
    assert open_cells(adata).types == ["1", "3"]


def test_backed_object(tmp_path: Path) -> None:
    good_cells().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(open_cells(backed).rows([4]).toarray(), good_cells().X.toarray()[[4]])


def test_one_type_left_after_empty_cells() -> None:
    adata = good_cells()
    adata.X = sp.csr_matrix((np.ones(1), ([0], [0])), shape=adata.shape, dtype=np.float32)
    with pytest.raises(ScxError, match="only cells of one type have a gene above 0"):
        open_cells(adata)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_cut_anywhere(share: float, tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    good_cells().write_h5ad(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ScxError, match="cells.h5ad"):
        open_cells(path)


@pytest.mark.parametrize("source", ["", "  ", "a\0b", "a" * 5000, 3, None, [1]])
def test_what_is_no_path(source: object) -> None:
    with pytest.raises(ScxError) as caught:
        open_cells(source)
    assert caught.value.remedy


def test_fingerprint_of_a_big_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too big to hash whole: a changed label, name or sampled value shows, the layout on disk does not."""
    monkeypatch.setattr(raw_cells, "WHOLE_FILE", 0)
    adata = good_cells()
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    first = open_cells(tmp_path / "a.h5ad")
    assert "32 blocks" in first.findings[0].evidence
    assert open_cells(tmp_path / "b.h5ad").fingerprint == first.fingerprint
    adata.obs["donor"] = adata.obs["donor"].astype(str).replace("donor 1", "donor 9")
    adata.write_h5ad(tmp_path / "b.h5ad")
    assert open_cells(tmp_path / "b.h5ad").fingerprint != first.fingerprint
