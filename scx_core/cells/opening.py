"""From a source to a cell table: open, detect, let the choices overrule, check, and say what was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import ScxError
from .choices import CellChoices, Finding, did_you_mean
from .columns import as_labels, find_donors, find_labels, label_candidates
from .fingerprint import fingerprint
from .genes import GeneColumns, check_orientation, clean_names, find_symbols, gene_names, unique_names
from .labels_file import join_labels
from .matrix import KEEP_CSC, RowMatrix
from .organism import find_organism
from .quality import cell_finding, gene_finding, unique_ids
from .reading import reading
from .sources import open_store
from .store import Store
from .table import CellTable
from .values import USABLE, Values, describe_values, pick_values


class Genes(NamedTuple):
    """The genes of the chosen matrix: unique symbols, how columns become them, what was found."""

    symbols: np.ndarray
    columns: GeneColumns
    written: pd.Series
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
    if choices.labels_file is not None:
        store = replace(store, obs=join_labels(store.obs, choices.labels_file, store.name))
    check_orientation(store.obs.index, store.var.index, store.name)
    label = _labels(store, choices, require_labels)
    labels = (
        as_labels(store.obs[label.choice])
        if label.choice != "-"
        else np.full(len(store.obs), "", dtype=object)
    )
    values, kind = _values(store, choices.values, labels)
    matrix = store.matrices[values.choice]
    genes = _genes(store, values.choice, kind, choices.symbols)
    organism = find_organism(
        store.obs, store.var_of(values.choice), genes.written, store.hints, choices.organism, store.name
    )
    donor = find_donors(store.obs, choices.donor, store.name)
    obs, id_note = unique_ids(store.obs)
    cells, labels, unit = cell_finding(store, matrix, kind, labels, id_note)
    if require_labels and len(set(labels.tolist()) - {""}) < 2:
        raise ScxError(
            f"{store.name}: only cells of one type have a gene above 0 ('{label.choice}', {values.choice}).",
            "Check that the right matrix was saved.",
        )
    digest, how = _fingerprint(store, choices)
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
            choices, symbols=genes.findings[0].choice, values=values.choice, label=_none(label.choice),
            donor=donor.choice, organism=organism.choice,
        ),
        fingerprint=digest,
        matrix=matrix,
        columns=genes.columns,
        unit=unit,
    )  # fmt: skip


def _none(choice: str) -> str | None:
    return None if choice == "-" else choice


def _labels(store: Store, choices: CellChoices, required: bool) -> Finding:
    try:
        return find_labels(store.obs, choices.label, store.name)
    except ScxError as error:
        if required or choices.label is not None:
            raise
        others = label_candidates(store.obs)
        return Finding("label", "-", f"{error.problem} {error.remedy}", others, "warning")


def _values(store: Store, wanted: str | None, labels: np.ndarray) -> tuple[Finding, str]:
    """The matrix to use as a finding, and its kind."""
    if wanted is not None and wanted not in store.matrices:
        raise ScxError(f"{store.name} has no matrix '{wanted}'.", did_you_mean(wanted, list(store.matrices)))
    counts = pd.Series(labels[labels != ""]).value_counts()
    per_type = float(counts.median()) if len(counts) else None
    found: dict[str, Values] = {}
    for name, matrix in store.matrices.items():
        with reading(f"{store.name}: the matrix {name}"):
            found[name] = describe_values(matrix, per_type)
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
    evidence += f". {chosen.warning}" if chosen.warning else ""
    return Finding("values", wanted, evidence, usable, "warning" if chosen.warning else "ok"), chosen.kind


def _genes(store: Store, values: str, kind: str, wanted: str | None) -> Genes:
    """Symbols in upper case; columns that become equal are one gene from here on."""
    var = store.var_of(values)
    where = f"{store.name}, {'raw.var' if values == 'raw' else 'var'}"
    place = find_symbols(var, wanted, where)
    names, n_unnamed = gene_names(var, place.choice)
    symbols, target = unique_names(names)
    columns = GeneColumns(len(symbols), target, take_maximum=kind == "log-normalised")
    written = pd.Series(clean_names(var.index if place.choice == "index" else var[place.choice]))
    return Genes(symbols, columns, written, (place, gene_finding(names, columns, n_unnamed)))


def _fingerprint(store: Store, choices: CellChoices) -> tuple[str, str]:
    with reading(store.name):
        return fingerprint(store, choices.labels_file)


def _file(store: Store, matrix: RowMatrix, digest: str, how: str) -> Finding:
    evidence = f"{matrix.shape[0]:,} × {matrix.shape[1]:,}, {matrix.storage}; sha256 {digest[:12]}… {how}"
    notes = list(store.notes)
    if matrix.scans and matrix.n_stored > KEEP_CSC:
        notes.append(
            "Every reading of cells goes through the whole file: save the matrix as CSR to make it fast."
        )
    return Finding("file", store.format, " ".join([evidence + ".", *notes]), (), "note" if notes else "ok")
