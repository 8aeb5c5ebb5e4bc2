"""A small, plausible file of cells to start from, and writers for the formats of 10x."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.io import mmwrite

TYPES = ("B cell", "NK cell", "monocyte")
GENES = [
    "CD79A", "MS4A1", "CD79B", "CD74", "HLA-DRA", "HLA-DRB1", "BANK1", "IGHM", "NKG7", "GNLY", "GZMB",
    "PRF1", "KLRD1", "KLRF1", "CTSW", "CST7", "LYZ", "CD14", "S100A8", "S100A9", "FCN1", "CST3",
    "TYROBP", "CTSS", "ACTB", "B2M", "MALAT1", "TMSB4X", "RPL3", "RPS6", "RPLP0", "RPS27", "EEF1A1",
    "FTL", "FTH1", "GAPDH", "PTPRC", "CD52", "VIM", "COX6A1", "MT-CO1", "MT-ND1", "UBA52", "TPT1",
    "NACA", "CD3D", "CD3E", "IL7R", "TRAC", "LTB",
]  # fmt: skip


def good_cells(n_cells: int = 120, seed: int = 0) -> ad.AnnData:
    """Counts where each type has eight genes of its own; labels, three donors and a continuous column."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_cells) % len(TYPES)
    mean = np.full((n_cells, len(GENES)), 0.3)
    mean[:, 24:] = 2.0
    for place in range(len(TYPES)):
        mean[kind == place, 8 * place : 8 * place + 8] = 5.0
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([TYPES[place] for place in kind]),
            "donor": [f"donor {place % 4}" for place in rng.integers(0, 4, n_cells)],
            "n_umi": rng.random(n_cells),
        },
        index=[f"{''.join(rng.choice(list('ACGT'), 16))}-1" for _ in range(n_cells)],
    )
    x = sp.csr_matrix(rng.poisson(mean).astype(np.float32))
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=GENES))


def _labels_beside(adata: ad.AnnData, path: Path) -> None:
    adata.obs[["cell_type"]].to_csv(path.parent / "labels.csv", index_label="barcode")


def as_tenx_h5(
    adata: ad.AnnData, path: Path, kinds: list[str] | None = None, genomes: list[str] | None = None,
    labelled: bool = False,
) -> Path:  # fmt: skip
    """The matrix as Cell Ranger 3 writes it. `labelled`: with labels.csv beside it."""
    n = adata.n_vars
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        group["data"], group["indices"], group["indptr"] = (
            adata.X.data.astype("i4"),
            adata.X.indices,
            adata.X.indptr,
        )
        group["shape"] = np.array([n, adata.n_obs])
        group["features/id"] = np.array([f"ENSG{number:011d}" for number in range(n)], dtype="S")
        group["features/name"] = np.array(adata.var_names, dtype="S")
        group["features/feature_type"] = np.array(kinds or ["Gene Expression"] * n, dtype="S")
        group["features/genome"] = np.array(genomes or ["GRCh38"] * n, dtype="S")
    if labelled:
        _labels_beside(adata, path)
    return path


def as_old_tenx_h5(adata: ad.AnnData, path: Path, genomes: tuple[str, ...] = ("hg19",)) -> Path:
    """The matrix as Cell Ranger 2 wrote it: one group a genome, the later ones with fewer values."""
    with h5py.File(path, "w") as file:
        for place, genome in enumerate(genomes):
            x = adata.X if not place else sp.csr_matrix(adata.shape, dtype=np.float32)
            group = file.create_group(genome)
            group["barcodes"] = np.array(adata.obs_names, dtype="S")
            group["data"], group["indices"], group["indptr"] = x.data.astype("i4"), x.indices, x.indptr
            group["shape"] = np.array([adata.n_vars, adata.n_obs])
            group["genes"] = np.array([f"ENSG{number:011d}" for number in range(adata.n_vars)], dtype="S")
            group["gene_names"] = np.array(adata.var_names, dtype="S")
    return path


def as_tenx_mtx(adata: ad.AnnData, folder: Path, packed: bool = False) -> Path:
    """The folder that Cell Ranger writes, plain or with every file gzipped."""
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sp.coo_matrix(adata.X.T.astype("i4")))
    features = pd.DataFrame({"id": [f"ENSG{i:011d}" for i in range(adata.n_vars)], "name": adata.var_names})
    features["kind"] = "Gene Expression"
    features.to_csv(folder / "features.tsv", sep="\t", header=False, index=False)
    pd.DataFrame(adata.obs_names).to_csv(folder / "barcodes.tsv", sep="\t", header=False, index=False)
    if packed:
        import gzip

        for name in ("matrix.mtx", "features.tsv", "barcodes.tsv"):
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    return folder
