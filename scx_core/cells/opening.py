"""From a source to a cell table: open, detect, let the choices overrule, check, and say what was done;
then what a person wants to see of it before using it: genes per cell, and the map of the cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import zarr

from scx_core.cells.detection.columns import as_labels, find_donors, find_labels, label_candidates
from scx_core.cells.detection.gene_symbols import (
    GeneColumns,
    check_orientation,
    find_symbols,
    named_genes,
    unique_names,
)
from scx_core.cells.detection.organism import find_organism
from scx_core.cells.detection.quality import cell_finding, gene_finding, unique_ids
from scx_core.cells.detection.values import USABLE, MatrixKind, describe_values, parts_of, pick_values
from scx_core.cells.formats.guarded_reads import reading
from scx_core.cells.formats.label_files import Joined, join_labels, read_mapping
from scx_core.cells.formats.raw_cells import Store, fingerprint
from scx_core.cells.formats.sources import open_store
from scx_core.cells.type_colours import colours_by_label

from ..errors import ScxError
from .cell_table import CellTable
from .choices import CellChoices, Finding, did_you_mean
from .matrix import KEEP_CSC, RowMatrix, SomeColumns


class Genes(NamedTuple):
    """The genes of the chosen matrix: unique symbols, the matrix of their columns, how columns become genes,
    the names as the file writes them, other names of the same genes, what was found."""

    symbols: np.ndarray
    matrix: RowMatrix
    columns: GeneColumns
    written: pd.Series
    ids: pd.Index
    findings: tuple[Finding, Finding]


def open_cells(
    source: str | Path | Any, choices: CellChoices | None = None, require_labels: bool = True
) -> CellTable:
    """Open cells and say what was understood.

    `source`: a path (.h5ad, .zarr, 10x .h5, folder with matrix.mtx), "embedded", or an AnnData object.
    `require_labels=False` opens files without usable labels too; `labels` is then all "".
    Raises ScxError, naming the file, column or matrix and the remedy, for everything that cannot work.
    """
    choices = choices or CellChoices()
    store = open_store(source, choices.genome)
    joined = None
    if choices.labels_file is not None:
        joined = join_labels(store.obs, choices.labels_file, store.name)
        store = replace(store, obs=joined.obs)
    check_orientation(store.obs.index, store.var.index, store.name)
    label = _labels(store, choices, require_labels, joined)
    labels = (
        as_labels(store.obs[label.choice])
        if label.choice != "-"
        else np.full(len(store.obs), "", dtype=object)
    )
    values, kind = _values(store, choices.values, labels)
    genes = _genes(store, values.choice, kind, choices)
    matrix = genes.matrix
    organism = find_organism(
        store.obs, genes.ids, store.var_of(values.choice), genes.written, store.hints, choices.organism,
        store.name,
    )  # fmt: skip
    donor = find_donors(store.obs, choices.donor, store.name)
    obs, id_note = unique_ids(store.obs)
    cells, labels, unit = cell_finding(store, matrix, kind, labels, id_note)
    if require_labels and len(set(labels.tolist()) - {""}) < 2:
        raise ScxError(
            f"{store.name}: only cells of one type have a gene above 0 ('{label.choice}', {values.choice}).",
            "Check that the right matrix was saved.",
        )
    given = None if choices.answers is None else read_mapping(choices.answers)
    if unknown := [name for name in given or {} if name not in set(labels.tolist())]:
        raise ScxError(
            f"{store.name} has no type {unknown[0]!r}, which the mapping {choices.answers} names.",
            did_you_mean(unknown[0], sorted(set(labels.tolist()) - {""})),
        )
    with reading(store.name):
        digest, how = fingerprint(store, choices.labels_file)
    return CellTable(
        name=store.name,
        path=store.path,
        symbols=genes.symbols,
        labels=labels,
        donors=as_labels(store.obs[donor.choice]) if donor.choice != "-" else None,
        organism=organism.choice,
        obs=obs,
        values_kind=kind,
        findings=(_file(store, matrix, digest, how), cells, *genes.findings, values, label, donor, organism),
        choices=replace(
            choices, symbols=genes.findings[0].choice, values=values.choice,
            label=None if label.choice == "-" else label.choice,
            donor=donor.choice, organism=organism.choice,
        ),
        fingerprint=digest,
        matrix=matrix,
        columns=genes.columns,
        unit=unit,
        given_answers=given,
        file_colours=colours_by_label(store.obs[label.choice], store.palettes.get(label.choice, ()))
        if label.choice != "-"
        else {},
    )  # fmt: skip


def _labels(store: Store, choices: CellChoices, required: bool, joined: Joined | None) -> Finding:
    given = joined.columns if joined is not None else ()
    file = Path(choices.labels_file).name if choices.labels_file else ""
    try:
        found = find_labels(store.obs, choices.label, store.name, given, file)
    except ScxError as error:
        if required or choices.label is not None:
            raise
        others = label_candidates(store.obs)
        return Finding("label", "-", f"{error.problem} {error.remedy}", others, "warning")
    if joined is None:
        return found
    return found._replace(
        evidence=f"{found.evidence}. {joined.note}", level="note" if found.level == "ok" else found.level
    )


def _values(store: Store, wanted: str | None, labels: np.ndarray) -> tuple[Finding, str]:
    """The matrix to use as a finding, and its kind."""
    if wanted is not None and wanted not in store.matrices:
        raise ScxError(f"{store.name} has no matrix '{wanted}'.", did_you_mean(wanted, list(store.matrices)))
    counts = pd.Series(labels[labels != ""]).value_counts()
    per_type = float(counts.median()) if len(counts) else None
    found: dict[str, MatrixKind] = {}
    for name, matrix in store.matrices.items():
        found[name] = _described(
            store, name, matrix, per_type, needed=name == wanted or len(store.matrices) == 1
        )
    if wanted is None:
        try:
            wanted = pick_values(found, {name: matrix.shape[1] for name, matrix in store.matrices.items()})
        except ScxError as error:
            raise ScxError(f"{store.name}: {error.problem}", error.remedy) from error
    chosen = found[wanted]
    usable = tuple(name for name, values in found.items() if values.kind in USABLE and name != wanted)
    if chosen.kind not in USABLE:
        instead = f"Choose {' or '.join(usable)} instead." if usable else f"{chosen.remedy}."
        raise ScxError(f"{store.name}: the matrix {wanted} cannot be used: {chosen.problem}.", instead)
    others = [f"{name} is {values.kind}" for name, values in found.items() if name != wanted]
    evidence = f"{chosen.kind}: {chosen.evidence}" + (f". {', '.join(others)}" if others else "")
    warning = chosen.warning
    if len(found) > 1 and wanted in parts_of(found, [wanted, *usable]):
        warning = f"{warning} {wanted} holds a part of the molecules of each cell only.".strip()
    evidence += f". {warning}" if warning else ""
    return Finding("values", wanted, evidence, usable, "warning" if warning else "ok"), chosen.kind


def _described(
    store: Store, name: str, matrix: RowMatrix, per_type: float | None, needed: bool
) -> MatrixKind:
    """What a matrix holds. One that cannot be read and is not needed is broken, and the others serve."""
    try:
        with reading(f"{store.name}: the matrix {name}"):
            return describe_values(matrix, per_type)
    except ScxError as error:
        if needed:
            raise
        return MatrixKind(
            "broken", f"it cannot be read: {error.problem}", error.problem, error.remedy.rstrip(".")
        )


def _genes(store: Store, values: str, kind: str, choices: CellChoices) -> Genes:
    """Symbols in upper case; columns that become equal are one gene from here on."""
    var, matrix = store.var_of(values), store.matrices[values]
    where = f"{store.name}, {'raw.var' if values == 'raw' else 'var'}"
    place = find_symbols(var, choices.symbols, where)
    named = named_genes(var, place.choice, None if store.genome else choices.genome, where)
    kept = np.flatnonzero(named.symbol != "")
    if not len(kept):
        raise ScxError(
            f"{where}: no gene has a name.", "Add a column 'gene_symbol' to var and save it again."
        )
    if len(kept) < len(var):
        matrix = SomeColumns(matrix, kept)
    names = named.symbol[kept]
    symbols, target = unique_names(names)
    columns = GeneColumns(len(symbols), target, take_maximum=kind == "log-normalised")
    return Genes(
        symbols, matrix, columns, pd.Series(named.written, dtype=object), var.index[kept],
        (place, gene_finding(names, columns, named)),
    )  # fmt: skip


def _file(store: Store, matrix: RowMatrix, digest: str, how: str) -> Finding:
    evidence = f"{matrix.shape[0]:,} × {matrix.shape[1]:,}, {matrix.storage}; sha256 {digest[:12]}… {how}"
    notes = list(store.notes)
    if matrix.scans and matrix.n_stored > KEEP_CSC:
        notes.append(
            "Every reading of cells goes through the whole file: save the matrix as CSR to make it fast."
        )
    return Finding("file", store.format, " ".join([evidence + ".", *notes]), (), "note" if notes else "ok")


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
