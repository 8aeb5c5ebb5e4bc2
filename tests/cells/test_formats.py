"""One data set in every format gives the same table, and only the asked rows are read."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.cells import matrix as matrix_module
from scx_core.errors import ScxError
from tests.cells.good_cells import as_old_tenx_h5, as_tenx_h5, as_tenx_mtx, good_cells

SOME = [7, 3, 3, 119, 0]


def assert_same(table: CellTable, adata: ad.AnnData) -> None:
    assert table.symbols.tolist() == list(adata.var_names)
    assert table.labels.tolist() == adata.obs["cell_type"].tolist()
    assert table.cell_ids.tolist() == list(adata.obs_names)
    assert table.values_kind == "counts"
    dense = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
    rows = table.rows(SOME)
    assert rows.dtype == np.float32
    assert rows.has_sorted_indices
    np.testing.assert_array_equal(rows.toarray(), dense[SOME])
    assert table.rows([]).shape == (0, adata.n_vars)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, sp.csr_matrix.toarray])
def test_anndata_files(suffix: str, layout, tmp_path: Path) -> None:
    adata = good_cells()
    adata.X = layout(adata.X)
    path = tmp_path / f"cells.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    table = open_cells(path)
    assert "on disk" in table.findings[0].evidence
    assert_same(table, adata if sp.issparse(adata.X) else good_cells())


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("version", [2, 3])
def test_both_zarr_formats_are_read_in_rows(version: int, layout, tmp_path: Path) -> None:
    if not hasattr(ad.settings, "zarr_write_format"):
        pytest.skip("this anndata writes one zarr format only")
    adata = good_cells()
    adata.X = layout(adata.X)
    with ad.settings.override(zarr_write_format=version):
        adata.write_zarr(tmp_path / "cells.zarr")
    assert (tmp_path / "cells.zarr" / "zarr.json").exists() == (version == 3)
    table = open_cells(tmp_path / "cells.zarr")
    assert "on disk, compressed by" in table.findings[0].evidence
    assert_same(table, adata)


def test_anndata_object() -> None:
    adata = good_cells()
    assert_same(open_cells(adata), adata)
    assert list(adata.obs.columns) == ["cell_type", "donor", "n_umi"]


@pytest.mark.parametrize("write", [as_tenx_h5, as_old_tenx_h5])
def test_tenx_h5(write, tmp_path: Path) -> None:
    adata = good_cells()
    path = write(adata, tmp_path / "filtered.h5")
    adata.obs[["cell_type"]].to_csv(tmp_path / "labels.csv")
    table = open_cells(path, CellChoices(labels_file=str(tmp_path / "labels.csv")))
    assert_same(table, adata)
    assert table.choices.symbols == "gene_symbols"


def test_old_tenx_of_two_genomes_keeps_the_fuller(tmp_path: Path) -> None:
    path = as_old_tenx_h5(good_cells(), tmp_path / "filtered.h5", ("hg19", "mm10"))
    table = open_cells(path, require_labels=False)
    assert table.organism == "Homo sapiens"
    assert "hg19 is kept, mm10 left out" in table.findings[0].evidence
    assert table.types == []


@pytest.mark.parametrize("packed", [False, True])
def test_mtx_folder(packed: bool, tmp_path: Path) -> None:
    adata = good_cells()
    folder = as_tenx_mtx(adata, tmp_path / "sample", packed)
    ids = [name.removesuffix("-1") for name in adata.obs_names]
    (tmp_path / "labels.tsv").write_text(
        "\n".join(["id\tcell_type", *(f"{a}\t{b}" for a, b in zip(ids, adata.obs.cell_type, strict=True))])
    )
    assert_same(open_cells(folder, CellChoices(labels_file=str(tmp_path / "labels.tsv"))), adata)


def test_one_genome_of_two(tmp_path: Path) -> None:
    adata = good_cells()
    genomes = ["GRCh38" if place % 3 else "mm10" for place in range(adata.n_vars)]
    path = as_tenx_h5(adata, tmp_path / "filtered.h5", genomes=genomes)
    table = open_cells(path, CellChoices(genome="mm10"), require_labels=False)
    assert table.organism == "Mus musculus"
    np.testing.assert_array_equal(table.rows(SOME).toarray(), adata.X.toarray()[SOME][:, ::3])


def test_rows_read_only_what_they_need(tmp_path: Path) -> None:
    """A spy instead of the stored arrays: far rows are separate pieces, near rows one piece."""
    good_cells().write_h5ad(tmp_path / "cells.h5ad")
    table = open_cells(tmp_path / "cells.h5ad")
    read: list[int] = []
    stored = table.matrix._data

    class Spy:
        def __getitem__(self, place: slice) -> np.ndarray:
            read.append(place.stop - place.start)
            return stored[place]

    table.matrix._data = Spy()
    one = table.rows([5])
    assert read == [one.nnz]


def test_far_rows_are_separate_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_module, "MAX_GAP", 10)
    adata = good_cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert_same(open_cells(tmp_path / "cells.h5ad"), adata)


def test_big_matrix_by_genes_is_scanned_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_module, "KEEP_CSC", 0)
    monkeypatch.setattr(matrix_module, "SCAN_BLOCK", 100)
    adata = good_cells()
    expected = adata.copy()
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert_same(open_cells(tmp_path / "cells.h5ad"), expected)


@pytest.mark.parametrize(
    ("wanted", "words"), [([120], "no cell 120"), ([-1], "no cell -1"), ([0.5], "whole numbers")]
)
def test_rows_that_do_not_exist(wanted: list, words: str) -> None:
    with pytest.raises(ScxError, match=words):
        open_cells(good_cells()).rows(wanted)


def test_bad_value_beyond_the_sample_is_named_when_read() -> None:
    table = open_cells(good_cells())
    table.matrix._values.data[0] = np.nan
    with pytest.raises(ScxError, match=f"cell {table.cell_ids[0]} holds nan for"):
        table.rows([1, 0])
