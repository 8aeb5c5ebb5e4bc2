"""Bad inputs, written on demand: what each is, the words its message must hold, and whether it is repaired.

`BAD_FILES[name].make(folder)` returns the path to open with `BAD_FILES[name].choices`. A rejected file must
give one ScxError that holds all `words`; a repaired one must open, with `words` in its findings. The
command line and the pages are tested with the same files.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.cells.good_cells import GENES, as_tenx_h5, as_tenx_mtx, good_cells


class BadFile(NamedTuple):
    make: Callable[[Path], Path]
    words: tuple[str, ...]
    outcome: str = "rejected"  # or "repaired"
    choices: tuple[tuple[str, str], ...] = ()


def _write(folder: Path, adata: ad.AnnData, name: str = "cells.h5ad") -> Path:
    adata.write_h5ad(folder / name)
    return folder / name


def _good(folder: Path) -> Path:
    return _write(folder, good_cells())


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _changed(change: Callable[[ad.AnnData], ad.AnnData | None]) -> Callable[[Path], Path]:
    """A good AnnData after a change (in place, or returned anew), written as .h5ad."""

    def make(folder: Path) -> Path:
        adata = good_cells()
        changed = change(adata)
        return _write(folder, adata if changed is None else changed)

    return make


def _obs(**columns: object) -> Callable[[Path], Path]:
    """A good file whose obs has these columns instead of its own; functions get the number of cells."""

    def change(adata: ad.AnnData) -> None:
        values = {name: value(adata.n_obs) if callable(value) else value for name, value in columns.items()}
        adata.obs = pd.DataFrame(values, index=adata.obs_names)

    return _changed(change)


def _var_names(names: Callable[[int], list[str]]) -> Callable[[Path], Path]:
    def change(adata: ad.AnnData) -> None:
        adata.var_names = names(adata.n_vars)

    return _changed(change)


def _edited(edit: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    """A good file, broken afterwards at the level of HDF5."""

    def make(folder: Path) -> Path:
        path = _good(folder)
        with h5py.File(path, "r+") as file:
            edit(file)
        return path

    return make


def _replaced(key: str, value: np.ndarray) -> Callable[[Path], Path]:
    def edit(file: h5py.File) -> None:
        del file[key]
        file[key] = value

    return _edited(edit)


def _truncated(folder: Path) -> Path:
    path = _good(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _gzipped(folder: Path) -> Path:
    path = _good(folder)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def _unreadable(folder: Path) -> Path:
    path = _good(folder)
    path.chmod(0)
    return path


def _other_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "weights.h5", "w") as file:
        file["dense/kernel"] = np.ones((3, 3))
    return folder / "weights.h5"


def _empty_folder(folder: Path) -> Path:
    (folder / "sample1").mkdir()
    return folder / "sample1"


def _other_folder(folder: Path) -> Path:
    path = _empty_folder(folder)
    (path / "notes.txt").write_text("hello")
    _good(path)
    return path


def _zarr_without_tables(folder: Path) -> Path:
    import zarr

    zarr.create_group(str(folder / "image.zarr")).create_array("pixels", shape=(2, 2), dtype="f4")
    return folder / "image.zarr"


def _scaled(adata: ad.AnnData) -> None:
    x = np.log1p(adata.X.toarray())
    adata.X = ((x - x.mean(0)) / (x.std(0) + 1e-6)).astype(np.float32)


def _scaled_with_raw(adata: ad.AnnData) -> None:
    adata.raw = adata.copy()
    _scaled(adata)


def _with_value(value: float) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        adata.X.data[5] = value

    return change


def _nan_with_raw(adata: ad.AnnData) -> None:
    adata.raw = adata.copy()
    adata.X.data[5] = np.nan


def _without_matrix(adata: ad.AnnData) -> ad.AnnData:
    return ad.AnnData(obs=adata.obs, var=adata.var)


def _zeros(adata: ad.AnnData) -> None:
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)


def _colliding(adata: ad.AnnData) -> None:
    adata.var_names = [GENES[0].lower(), GENES[0], *GENES[2:]]


def _same_ids(adata: ad.AnnData) -> None:
    adata.obs_names = ["cell_a", "cell_a", *adata.obs_names[2:]]


def _empty_cells(adata: ad.AnnData) -> None:
    adata.X = sp.csr_matrix(adata.X.multiply((np.arange(adata.n_obs) > 2)[:, None]), dtype=np.float32)
    adata.X.eliminate_zeros()


def _ensembl_with_names(adata: ad.AnnData) -> None:
    adata.var["feature_name"] = list(adata.var_names)
    adata.var_names = [f"ENSG{number:011d}.{number % 9}" for number in range(adata.n_vars)]


def _mouse(adata: ad.AnnData) -> None:
    adata.var_names = [name.capitalize() for name in adata.var_names]


def _mtx(**changes: object) -> Callable[[Path], Path]:
    """A 10x folder where a part is left out (None) or has other text."""

    def make(folder: Path) -> Path:
        path = as_tenx_mtx(good_cells(), folder / "mtx")
        for part, text in changes.items():
            file = next(path.glob(f"{part}.*"))
            if text is None:
                file.unlink()
            else:
                file.write_text(str(text))
        return path

    return make


def _two_samples(folder: Path) -> Path:
    path = as_tenx_mtx(good_cells(), folder / "mtx")
    for prefix in ("s1_", "s2_"):
        (path / f"{prefix}matrix.mtx").write_bytes((path / "matrix.mtx").read_bytes())
    (path / "matrix.mtx").unlink()
    return path


def _tenx(**columns: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return as_tenx_h5(good_cells(), folder / "filtered.h5", **columns)

    return make


def _foreign_labels(folder: Path) -> Path:
    (folder / "labels.csv").write_text("barcode,cell_type\nTTTT,B cell\nCCCC,NK cell\n")
    return as_tenx_h5(good_cells(), folder / "filtered.h5")


_N = len(GENES)
_HALF = ["GRCh38" if place % 3 else "mm10" for place in range(_N)]
_PROTEIN = ["Gene Expression" if place < _N - 4 else "Antibody Capture" for place in range(_N)]
_TWO_TYPES = ("B cell", "NK cell")


def _alternating(n: int) -> list[str]:
    return [_TWO_TYPES[place % 2] for place in range(n)]


BAD_FILES: dict[str, BadFile] = {
    # Paths and containers
    "missing file": BadFile(lambda folder: folder / "absent.h5ad", ("absent.h5ad", "Check the path")),
    "text named h5ad": BadFile(
        _bytes("cells.h5ad", b"gene,cell\n1,2\n"), ("cells.h5ad", "holds text", ".h5ad")
    ),
    "web page named h5ad": BadFile(
        _bytes("cells.h5ad", b"<html>404</html>"), ("web page", "download failed")
    ),
    "gzipped h5ad": BadFile(_gzipped, ("cells.h5ad", "gzip", "unpack")),
    "truncated h5ad": BadFile(_truncated, ("cells.h5ad", "Download or write the file again")),
    "empty file": BadFile(_bytes("cells.h5ad", b""), ("cells.h5ad", "0 bytes", "again")),
    "unreadable file": BadFile(_unreadable, ("cells.h5ad", "permission")),
    "csv table": BadFile(_bytes("cells.csv", b"a,b\n1,2\n"), ("cells.csv", "read_csv")),
    "R object": BadFile(_bytes("cells.rds", b"RDX3"), ("cells.rds", "zellkonverter")),
    "unknown extension": BadFile(_bytes("cells.docx", b"PK"), ("cells.docx", ".h5ad")),
    "other HDF5": BadFile(_other_hdf5, ("weights.h5", "dense", "10x")),
    "empty folder": BadFile(_empty_folder, ("sample1", "empty", "matrix.mtx")),
    "folder of something else": BadFile(_other_folder, ("sample1", "cells.h5ad")),
    "zarr without tables": BadFile(_zarr_without_tables, ("image.zarr", "pixels", "write_zarr")),
    # Tables and matrices
    "no cells": BadFile(_changed(lambda a: a[:0].copy()), ("cells.h5ad", "no cells", "obs is empty")),
    "no genes": BadFile(_changed(lambda a: a[:, :0].copy()), ("cells.h5ad", "no genes", "var is empty")),
    "no matrix": BadFile(_changed(_without_matrix), ("cells.h5ad", "no expression matrix", "Save it with X")),
    "shapes disagree": BadFile(
        _replaced("X", np.ones((7, _N))), ("cells.h5ad", "X is 7 × 50", "obs has 120")
    ),
    "wrong shape noted": BadFile(
        _edited(lambda f: f["X"].attrs.modify("shape", [3, _N])),
        ("cells.h5ad: the matrix X", "damaged", "again"),
    ),
    "damaged indices": BadFile(
        _edited(
            lambda f: f["X/indices"].write_direct(np.full(f["X/indices"].shape, 10**6, f["X/indices"].dtype))
        ),
        ("cells.h5ad", "damaged", "again"),
    ),
    "damaged pointers": BadFile(_replaced("X/indptr", np.arange(7)), ("damaged", "pointer")),
    "missing indices": BadFile(_edited(lambda f: f["X"].pop("indices")), ("cells.h5ad", "matrix X")),
    "obs is no table": BadFile(_replaced("obs", np.arange(7)), ("cells.h5ad",)),
    "obs without index": BadFile(_edited(lambda f: f["obs"].pop("_index")), ("cells.h5ad", "obs")),
    "text matrix": BadFile(
        _replaced("X/data", np.array([b"a"] * 9)), ("matrix X", "not real numbers", "float32")
    ),
    "complex matrix": BadFile(
        _replaced("X/data", np.ones(9, complex)), ("matrix X", "complex128", "float32")
    ),
    "three dimensions": BadFile(
        _replaced("X", np.ones((2, 2, 2))), ("matrix X", "3 dimensions", "cells × genes")
    ),
    "scaled without raw": BadFile(_changed(_scaled), ("cells.h5ad", "X", "negative", "raw or a layer")),
    "all zero": BadFile(_changed(_zeros), ("cells.h5ad", "X", "no value other than 0")),
    "NaN": BadFile(_changed(_with_value(np.nan)), ("cells.h5ad", "X", "NaN or infinite: 1", "Replace")),
    "infinity": BadFile(_changed(_with_value(np.inf)), ("cells.h5ad", "X", "infinite", "Replace")),
    "transposed": BadFile(_changed(lambda a: a.T.copy()), ("cells.h5ad", "transposed", "adata.T")),
    # Gene names
    "only Ensembl ids": BadFile(
        _var_names(lambda n: [f"ENSG{i:011d}" for i in range(n)]), ("var", "Ensembl ids", "gene_symbol")
    ),
    "numbers as genes": BadFile(
        _var_names(lambda n: [str(i) for i in range(n)]), ("var", "numbers", "gene_symbol")
    ),
    "probe ids": BadFile(
        _var_names(lambda n: [f"{20000 + i}_at" for i in range(n)]), ("probe", "gene_symbol")
    ),
    "chosen symbols absent": BadFile(
        _good, ("var", "gene_symbls", "index"), choices=(("symbols", "gene_symbls"),)
    ),
    # Labels and other columns
    "no label column": BadFile(_obs(n_umi=lambda n: np.arange(n) / 7), ("cells.h5ad", "n_umi", "cell_type")),
    "unnamed label column": BadFile(_obs(stage=_alternating), ("no column of cell-type labels", "stage")),
    "no columns": BadFile(_obs(), ("no columns at all", "labels file")),
    "one type": BadFile(_obs(cell_type="B cell"), ("'cell_type'", "one type only", "B cell")),
    "all labels missing": BadFile(_obs(cell_type=np.nan), ("'cell_type'", "unlabelled", "fill it")),
    "all labels unknown": BadFile(_obs(cell_type="Unknown"), ("'cell_type'", "unlabelled")),
    "continuous labels": BadFile(
        _obs(cell_type=lambda n: np.linspace(0, 1, n), stage=_alternating),
        ("'cell_type'", "continuous", "stage"),
    ),
    "a label for each cell": BadFile(
        _obs(cell_type=lambda n: [f"cell number {i}" for i in range(n)]), ("'cell_type'", "no grouping")
    ),
    "chosen label absent": BadFile(
        _good, ("cel_type", "Did you mean 'cell_type'"), choices=(("label", "cel_type"),)
    ),
    "chosen label continuous": BadFile(
        _good, ("'n_umi'", "continuous", "cell_type"), choices=(("label", "n_umi"),)
    ),
    "chosen matrix absent": BadFile(_good, ("layers/count", "X"), choices=(("values", "layers/count"),)),
    "chosen matrix scaled": BadFile(
        _changed(_scaled_with_raw), ("the matrix X", "negative", "Choose raw"), choices=(("values", "X"),)
    ),
    "chosen donor absent": BadFile(_good, ("dono", "Did you mean 'donor'"), choices=(("donor", "dono"),)),
    "chosen organism absent": BadFile(
        _good, ("organism_2", "cells.h5ad"), choices=(("organism", "organism_2"),)
    ),
    "missing labels file": BadFile(_good, ("absent.csv", "Check"), choices=(("labels_file", "absent.csv"),)),
    # 10x
    "10x without labels": BadFile(_tenx(), ("filtered.h5", "labels file")),
    "10x antibodies only": BadFile(
        _tenx(kinds=["Antibody Capture"] * _N), ("Antibody Capture", "Gene Expression")
    ),
    "10x genome absent": BadFile(
        _tenx(genomes=_HALF), ("mm11", "Did you mean 'mm10'"), choices=(("genome", "mm11"),)
    ),
    "10x labels of other cells": BadFile(
        _foreign_labels, ("labels.csv", "TTTT", "cell ids"), choices=(("labels_file", "labels.csv"),)
    ),
    "mtx without features": BadFile(_mtx(features=None), ("matrix.mtx", "features.tsv", "genes.tsv")),
    "mtx without barcodes": BadFile(_mtx(barcodes=None), ("matrix.mtx", "barcodes.tsv", "three files")),
    "mtx of other length": BadFile(_mtx(barcodes="A-1\nB-1\n"), ("barcodes.tsv", "2", "copy them again")),
    "mtx is no matrix": BadFile(_mtx(matrix="hello\n"), ("matrix.mtx", "cannot be read")),
    "mtx of two samples": BadFile(_two_samples, ("s1_", "s2_", "own folder")),
    # Repaired, with a note
    "cell ids twice": BadFile(_changed(_same_ids), ("cell ids occur twice", "cell_a"), "repaired"),
    "symbols collide": BadFile(_changed(_colliding), ("occur more than once", "summed"), "repaired"),
    "scaled with raw": BadFile(_changed(_scaled_with_raw), ("X is scaled",), "repaired"),
    "NaN with raw": BadFile(_changed(_nan_with_raw), ("X is broken",), "repaired"),
    "empty cells": BadFile(_changed(_empty_cells), ("3 cells have no gene above 0",), "repaired"),
    "Ensembl with symbols": BadFile(
        _changed(_ensembl_with_names), ("the index holds Ensembl ids",), "repaired"
    ),
    "mouse symbols": BadFile(_changed(_mouse), ("written like mouse genes", "Mus musculus"), "repaired"),
    "unlabelled rows": BadFile(
        _obs(cell_type=lambda n: ["unlabelled", None, *_alternating(n - 2)]),
        ("2 of", "unlabelled"),
        "repaired",
    ),
    "10x with antibodies": BadFile(
        _tenx(kinds=_PROTEIN, labelled=True),
        ("4 of 'Antibody Capture'",),
        "repaired",
        (("labels_file", "labels.csv"),),
    ),
    "10x of two genomes": BadFile(
        _tenx(genomes=_HALF, labelled=True),
        ("GRCh38 is kept, mm10",),
        "repaired",
        (("labels_file", "labels.csv"),),
    ),
}


def choices_for(name: str, folder: Path) -> dict[str, str]:
    """The choices to open a bad file with; a labels file lies in the same folder."""
    choices = dict(BAD_FILES[name].choices)
    if "labels_file" in choices:
        choices["labels_file"] = str(folder / choices["labels_file"])
    return choices


def can_make(name: str) -> bool:
    """Whether this machine can have such a file: nothing is unreadable for root."""
    return name != "unreadable file" or (hasattr(os, "geteuid") and os.geteuid() != 0)
