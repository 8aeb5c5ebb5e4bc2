"""Reads what 10x Genomics' Cell Ranger writes: the .h5 of a sample, and folders with matrix.mtx.

Only the "Gene Expression" rows are kept, of one genome; a note says what was left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.io import mmread

from ..errors import ScxError
from .choices import did_you_mean
from .matrix import CsrOnDisk, MemoryMatrix, RowMatrix
from .reading import reading
from .store import Store, checked_store

EXPRESSION = "Gene Expression"
_MTX_PARTS = {
    "matrix": re.compile(r"(.*?)matrix\.mtx(?:\.gz)?"),
    "features": re.compile(r"(.*?)(?:features|genes)\.tsv(?:\.gz)?"),
    "barcodes": re.compile(r"(.*?)barcodes\.tsv(?:\.gz)?"),
}


class Kept(NamedTuple):
    """Which features stay, and what to tell about the others."""

    columns: np.ndarray
    genome: str
    notes: tuple[str, ...]


class SomeColumns:
    """A view of a matrix that shows some columns only."""

    def __init__(self, matrix: RowMatrix, columns: np.ndarray) -> None:
        self._matrix, self._columns = matrix, columns
        self.shape = (matrix.shape[0], len(columns))
        self.storage = matrix.storage
        self.scans = matrix.scans

    @property
    def n_stored(self) -> int:
        """Values held, with those of the columns left out."""
        return self._matrix.n_stored

    def values_per_row(self) -> np.ndarray | None:
        """Unknown without a reading."""
        return None

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        return self._matrix.rows(indices)[:, self._columns]


def is_tenx(file: h5py.File) -> bool:
    """Whether an HDF5 file has the groups of a 10x matrix, of either version."""
    return "matrix" in file or bool(_old_genomes(file))


def _old_genomes(file: h5py.File) -> list[str]:
    return [
        key for key in file if isinstance(file[key], h5py.Group) and {"barcodes", "indptr"} <= set(file[key])
    ]


def read_tenx_h5(path: Path, file: h5py.File, genome: str | None) -> Store:
    """The store of a 10x .h5 (Cell Ranger 2 and later). The matrix stays on disk: its columns are cells."""
    notes: tuple[str, ...] = ()
    with reading(path.name):
        if "matrix" in file:
            group = file["matrix"]
            features = group["features"]
            kinds = _text(features["feature_type"]) if "feature_type" in features else None
            genomes = _text(features["genome"]) if "genome" in features else None
            var = pd.DataFrame({"gene_symbols": _text(features["name"])}, index=_text(features["id"]))
        else:
            genome, notes = _choose_old_genome(path, file, genome)
            group = file[genome]
            kinds, genomes = None, None
            var = pd.DataFrame({"gene_symbols": _text(group["gene_names"])}, index=_text(group["genes"]))
        n_genes, n_cells = (int(n) for n in group["shape"][:])
        obs = pd.DataFrame(index=_text(group["barcodes"]))
        matrix = CsrOnDisk(group["data"], group["indices"], group["indptr"], (n_cells, n_genes))
    return _keep_genes(path, "10x h5", obs, var, matrix, kinds, genomes, genome, notes)


def _text(values: Any) -> list[str]:
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values[:]
    ]


def _choose_old_genome(path: Path, file: h5py.File, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    genomes = _old_genomes(file)
    chosen = wanted or max(genomes, key=lambda key: file[key]["data"].shape[0])
    if chosen not in genomes:
        raise ScxError(f"{path.name} has no genome '{wanted}'.", did_you_mean(chosen, genomes))
    left = [key for key in genomes if key != chosen]
    return chosen, (f"Several genomes: {chosen} is kept, {', '.join(left)} left out.",) if left else ()


def _keep_genes(
    path: Path, format_name: str, obs: pd.DataFrame, var: pd.DataFrame, matrix: RowMatrix,
    kinds: list[str] | None,    genomes: list[str] | None, genome: str | None, notes: tuple[str, ...] = (),
) -> Store:  # fmt: skip
    kept = choose_features(path.name, kinds, genomes, genome, len(var))
    if len(kept.columns) < len(var):
        var, matrix = var.iloc[kept.columns], SomeColumns(matrix, kept.columns)
    name = kept.genome or genome
    hints = {"genome of the 10x file": name} if name else {}
    return checked_store(
        Store(path.name, path, format_name, obs, var, {"X": matrix}, None, hints, notes + kept.notes)
    )


def choose_features(
    name: str, kinds: list[str] | None, genomes: list[str] | None, wanted: str | None, n: int
) -> Kept:
    """Keep the gene-expression features of one genome: the wanted, else the one with the most features."""
    keep, notes, genome = np.ones(n, dtype=bool), [], ""
    if kinds is not None:
        keep = np.array(kinds) == EXPRESSION
        if not keep.any():
            raise ScxError(
                f"{name} has no '{EXPRESSION}' features, only {', '.join(sorted(set(kinds)))}.",
                "Give the gene-expression library of this sample.",
            )
        left = pd.Series(np.array(kinds)[~keep], dtype=object).value_counts()
        if len(left):
            listed = ", ".join(f"{count:,} of '{kind}'" for kind, count in left.items())
            notes.append(f"Only '{EXPRESSION}' features are kept; left out: {listed}.")
    if genomes is not None:
        counts = (
            pd.Series(np.array(genomes)[keep], dtype=object).replace("", np.nan).value_counts().sort_index()
        )
        if wanted is not None and len(counts) and wanted not in counts:
            raise ScxError(
                f"{name} has no genome '{wanted}'.", did_you_mean(wanted, list(map(str, counts.index)))
            )
        genome = wanted or (str(counts.idxmax()) if len(counts) else "")
        if len(counts) > 1:
            keep &= np.array(genomes) == genome
            others = ", ".join(str(key) for key in counts.index if key != genome)
            notes.append(f"Several genomes: {genome} is kept, {others} left out; set genome to change it.")
    return Kept(np.flatnonzero(keep), genome, tuple(notes))


def find_mtx_parts(folder: Path) -> dict[str, Path] | None:
    """The three files of a 10x folder; None when there is no matrix.mtx. ScxError names a missing part."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    matrices = [match for name in names if (match := _MTX_PARTS["matrix"].fullmatch(name))]
    if not matrices:
        return None
    prefixes = sorted({match.group(1) for match in matrices})
    if len(prefixes) > 1:
        raise ScxError(
            f"{folder.name} holds several samples ({', '.join(prefixes[:5])}).",
            "Put each sample in its own folder.",
        )
    parts = {}
    for part, pattern in _MTX_PARTS.items():
        fitting = [
            name for name in names if (match := pattern.fullmatch(name)) and match.group(1) == prefixes[0]
        ]
        if not fitting:
            other = " (or genes.tsv)" if part == "features" else ""
            raise ScxError(
                f"{folder.name} has {matrices[0].group(0)}, but no {prefixes[0]}{part}.tsv{other} beside it.",
                "Copy the three files of the sample into one folder.",
            )
        parts[part] = folder / fitting[0]
    return parts


def read_mtx_folder(folder: Path, parts: dict[str, Path], genome: str | None) -> Store:
    """The store of a 10x folder, whose text matrix has to be read into memory."""
    tables = {}
    for part in ("features", "barcodes"):
        with reading(f"{folder.name}: {parts[part].name}"):
            tables[part] = pd.read_csv(
                parts[part], sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3
            )
    with reading(f"{folder.name}: {parts['matrix'].name}"):
        genes_by_cells = mmread(str(parts["matrix"]))
    features, obs = tables["features"], pd.DataFrame(index=tables["barcodes"][0].to_numpy())
    matrix = sp.csr_matrix(genes_by_cells.T)
    if matrix.shape == (len(features), len(obs)) and len(features) != len(obs):
        matrix = sp.csr_matrix(matrix.T)
    columns = {"gene_symbols": features[1].to_numpy()} if features.shape[1] > 1 else {}
    var = pd.DataFrame(columns, index=features[0].to_numpy())
    if matrix.shape != (len(obs), len(var)):
        raise ScxError(
            f"{folder.name}: {parts['matrix'].name} has {matrix.shape[1]:,} genes × {matrix.shape[0]:,} "
            f"cells, but {parts['features'].name} has {len(var):,} lines and {parts['barcodes'].name} "
            f"{len(obs):,}.",
            "The three files are of different samples, or one is cut short: copy them again.",
        )
    kinds = features[2].tolist() if features.shape[1] > 2 else None
    return _keep_genes(folder, "10x mtx folder", obs, var, MemoryMatrix(matrix), kinds, None, genome)
