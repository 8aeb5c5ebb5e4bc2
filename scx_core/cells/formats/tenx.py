"""Reads what 10x Genomics' Cell Ranger writes: the .h5 of a sample, and folders with matrix.mtx.

Only the "Gene Expression" rows are kept, of one genome; a note says what was left out.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import psutil
import scipy.sparse as sp
from scipy.io import mminfo, mmread

from scx_core.cells.choices import did_you_mean
from scx_core.cells.matrix import CsrOnDisk, MemoryMatrix, RowMatrix, SomeColumns
from scx_core.errors import ScxError
from scx_core.runs.files import in_words, unpacked

from .guarded_reads import reading
from .raw_cells import Store, checked_store

EXPRESSION = "Gene Expression"
LARGEST_TABLE = 1 << 30  # bytes of text, unpacked: ten million barcodes have a fifth of that
MTX = re.compile(r"(.*)\.mtx(?:\.gz)?", re.IGNORECASE)
_TABLE = r"(?:\.(?:tsv|txt|csv))(?:\.gz)?"
# How the two tables beside a matrix are called: Cell Ranger's names first.
_TABLES = {
    "features": (r"(?:features|genes)", r"(?:.*(?:features?|genes?|var|rows?)(?:_?names|_?ids)?\d*)"),
    "barcodes": (r"barcodes", r"(?:.*(?:barcodes?|cells?|obs|cols?|columns?)(?:_?names|_?ids)?\d*)"),
}
# The kinds of features that Cell Ranger writes; another third column (a biotype, "gene") is none of them.
FEATURE_TYPES = (
    EXPRESSION, "Antibody Capture", "CRISPR Guide Capture", "Custom", "Multiplexing Capture", "Peaks",
    "Antigen Capture", "VDJ", "VDJ-T", "VDJ-B", "Cell Multiplexing Oligo", "Antibody", "Gene",
)  # fmt: skip
_HEADER = re.compile(
    r"(?:gene|feature|ensembl|cell)?[_ .-]?(?:ids?|keys?|names?|symbols?|types?|barcodes?)"
    r"|genes?|features?|cells?|x|v\d",
    re.IGNORECASE,
)


class KeptFeatures(NamedTuple):
    """Which features stay, and what to tell about the others."""

    columns: np.ndarray
    genome: str
    notes: tuple[str, ...]


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
            kinds, genomes = None, [genome] * len(group["genes"])
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
    hints = {"genome of the 10x file": kept.genome} if kept.genome else {}
    store = Store(
        path.name, path, format_name, obs, var, {"X": matrix}, None, hints, notes + kept.notes, kept.genome
    )
    return checked_store(store)


def choose_features(
    name: str, kinds: list[str] | None, genomes: list[str] | None, wanted: str | None, n: int
) -> KeptFeatures:
    """Keep the gene-expression features of one genome: the wanted, else the one with the most features."""
    keep, notes, genome = np.ones(n, dtype=bool), [], ""
    if kinds is not None and not set(kinds) & set(FEATURE_TYPES):
        found = ", ".join(sorted(set(kinds))[:4])
        notes.append(f"The column of feature types holds {found}, none of 10x's types: all rows are genes.")
        kinds = None
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
        genome = str(counts.idxmax()) if len(counts) else ""
        if wanted is not None and len(counts):
            genome = wanted
        if len(counts) > 1:
            keep &= np.array(genomes) == genome
            others = ", ".join(str(key) for key in counts.index if key != genome)
            notes.append(f"Several genomes: {genome} is kept, {others} left out; set genome to change it.")
    return KeptFeatures(np.flatnonzero(keep), genome, tuple(notes))


def find_mtx_parts(folder: Path, wanted: str | None = None) -> dict[str, Path]:
    """The three files of a sample: matrix, features, barcodes. `wanted` is the matrix that was asked for.

    ScxError when there are several samples and none was asked for, or a table is not there.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    matrices = [name for name in names if MTX.fullmatch(name)]
    if wanted is None and len(matrices) > 1:
        raise ScxError(
            f"{folder.name} holds several samples ({', '.join(matrices[:5])}).",
            "Give the path of one .mtx file, or put each sample in its own folder.",
        )
    matrix = wanted or matrices[0]
    found = MTX.fullmatch(matrix)
    stem = found.group(1) if found else matrix
    prefix = re.sub(r"matrix$|counts?$|dge$", "", stem, flags=re.IGNORECASE)
    parts = {"matrix": folder / matrix}
    for part, patterns in _TABLES.items():
        tables = _beside(names, prefix, patterns)
        if not tables:
            other = " (or genes.tsv)" if part == "features" else ""
            raise ScxError(
                f"{folder.name} has {matrix}, but no {prefix}{part}.tsv{other} beside it.",
                "Copy the three files of the sample into one folder.",
            )
        if len(tables) > 1:
            raise ScxError(
                f"{folder.name}: several files could be the {part} of {matrix}: {', '.join(tables[:4])}.",
                f"Name the right one {prefix}{part}.tsv.",
            )
        parts[part] = folder / tables[0]
    return parts


def _beside(names: list[str], prefix: str, patterns: tuple[str, str]) -> list[str]:
    """The tables that go with a matrix: of the sample's own prefix before any, Cell Ranger's names first."""
    for start in dict.fromkeys((prefix, "")):
        for pattern in patterns:
            found = [
                name for name in names
                if re.fullmatch(re.escape(start) + pattern + _TABLE, name, re.IGNORECASE)
            ]  # fmt: skip
            if found:
                return found
    return []


def _check_size(path: Path) -> None:
    """Raises ScxError when a matrix says of itself that it does not fit into the free memory."""
    n_rows, n_columns, n_values, layout, *_ = mminfo(str(path))
    # of each value its row, its column and itself; they are sorted once
    declared = 8 * n_rows * n_columns if layout == "array" else 2 * 16 * n_values
    declared += 8 * (n_rows + n_columns)
    free = psutil.virtual_memory().available
    if declared > free:
        raise ScxError(
            f"it declares {n_values:,} values, {in_words(declared)}; {in_words(free)} of memory are free.",
            "Check where the file comes from; if it is meant so, convert it to .h5ad on a larger machine.",
        )


def _read_rows(path: Path, what: str) -> pd.DataFrame:
    """A table without a header, all as text; commas part the fields of a .csv, tabs those of others."""
    separator = "," if ".csv" in path.suffixes else "\t"
    with reading(what):
        return pd.read_csv(
            io.BytesIO(unpacked(path, LARGEST_TABLE)),
            sep=separator, header=None, dtype=str, keep_default_na=False,
            quoting=0 if separator == "," else 3,
            encoding="utf-8-sig",
        )  # fmt: skip


def _without_header(table: pd.DataFrame, n: int) -> tuple[pd.DataFrame, bool]:
    """The table without its first line where that is a header: one line more than the matrix has."""
    if len(table) == n + 1 and all(_HEADER.fullmatch(str(name)) for name in table.iloc[0] if str(name)):
        return table.iloc[1:].reset_index(drop=True), True
    return table, False


def read_mtx_folder(folder: Path, parts: dict[str, Path], genome: str | None) -> Store:
    """The store of a 10x folder, whose text matrix has to be read into memory."""
    features, barcodes = (
        _read_rows(parts[part], f"{folder.name}: {parts[part].name}") for part in ("features", "barcodes")
    )
    with reading(f"{folder.name}: {parts['matrix'].name}"):
        _check_size(parts["matrix"])
        matrix = sp.csr_matrix(mmread(str(parts["matrix"])).T)
    notes = []
    if matrix.shape[0] in (len(features), len(features) - 1) and matrix.shape[0] != len(barcodes):
        matrix = sp.csr_matrix(matrix.T)
    (features, first), (barcodes, second) = (
        _without_header(features, matrix.shape[1]), _without_header(barcodes, matrix.shape[0])
    )  # fmt: skip
    for part, header in (("features", first), ("barcodes", second)):
        if header:
            notes.append(f"The first line of {parts[part].name} is a header.")
    obs = pd.DataFrame(index=barcodes[0].to_numpy())
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
    format_name = "10x mtx folder"
    return _keep_genes(folder, format_name, obs, var, MemoryMatrix(matrix), kinds, None, genome, tuple(notes))
