"""The cell table: labelled cells with row access to their expression, gene names made unique."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scx_core.cells.detection.gene_symbols import GeneColumns
from scx_core.cells.formats.guarded_reads import reading
from scx_core.errors import ScxError

from .choices import CellChoices, Finding
from .matrix import RowMatrix


@dataclass(frozen=True, eq=False)
class CellTable:
    """Cells as the rest of the tool sees them.

    `symbols` [n_genes] upper-case and unique; `labels` [n_cells], "" where unlabelled; `donors`
    [n_cells] or None, "" where unknown; `cell_ids` [n_cells] unique; `obs` all columns of the file;
    `values_kind` what the numbers are; `choices` with every detected field filled in; `fingerprint`
    the sha256 of the data, whatever the choices; `unit` what a row is: "cell", "pool" or "profile";
    `answer_of` what a model calls each type ("" for a type without an answer), None before a model is known;
    `given_answers` what a person said of that; `file_colours` what the file colours its labels with
    (`type_colours`).
    """

    name: str
    path: Path | None
    symbols: np.ndarray
    labels: np.ndarray
    donors: np.ndarray | None
    organism: str
    obs: pd.DataFrame
    values_kind: str
    findings: tuple[Finding, ...]
    choices: CellChoices
    fingerprint: str
    matrix: RowMatrix
    columns: GeneColumns
    unit: str = "cell"
    answer_of: Mapping[str, str] | None = None
    given_answers: Mapping[str, str] | None = None
    file_colours: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def answers(self) -> np.ndarray:
        """The model's answer for the type of each cell [n_cells], "" where there is none; the labels
        themselves while no mapping stands between the two vocabularies."""
        return answers_to(self.labels, self.answer_of)

    @property
    def n_cells(self) -> int:
        """Number of cells, unlabelled ones included."""
        return len(self.labels)

    @property
    def n_genes(self) -> int:
        """Number of genes after merging."""
        return len(self.symbols)

    @cached_property
    def cell_ids(self) -> np.ndarray:
        """Unique names of the cells [n_cells]."""
        return self.obs.index.to_numpy(dtype=object)

    @property
    def types(self) -> list[str]:
        """The cell types, sorted, without the unlabelled."""
        return sorted(set(pd.unique(self.labels).tolist()) - {""})

    def cells_per_type(self) -> pd.Series:
        """Number of cells of each type, most frequent first, ties by name; unlabelled cells left out."""
        counts = pd.Series(self.labels[self.labels != ""], dtype=object).value_counts()
        counts = counts.sort_index().sort_values(ascending=False, kind="stable")
        return counts.rename("cells").rename_axis("cell_type")

    def row_of(self, cell: int | str | None) -> int:
        """The row of a cell by its number or its name; of None the first labelled one. Raises ScxError."""
        if cell is None:
            return int(np.argmax(self.labels != ""))
        if isinstance(cell, str) and cell in self.obs.index:
            return int(np.argmax(self.cell_ids == cell))
        if str(cell).isdecimal() and int(cell) < self.n_cells:
            return int(cell)
        raise ScxError(
            f"{self.name} has no cell {str(cell)[:80]!r}.",
            f"Give a number from 0 to {self.n_cells - 1}, or a name such as {self.cell_ids[0]!r}.",
        )

    def rows(self, indices: np.ndarray | list[int]) -> sp.csr_matrix:
        """Expression of some cells, float32 CSR [len(indices), n_genes], in the order asked for.

        Only these rows are read from disk. Raises ScxError when an index does not exist, or a row
        holds NaN, infinite or negative values (a big file is not read through when it is opened).
        """
        indices = np.atleast_1d(np.asarray(indices))
        if indices.dtype.kind not in "iu" and indices.size:
            raise ScxError(f"Cell indices must be whole numbers, not {indices.dtype}.", "Give row numbers.")
        indices = indices.astype(np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.n_cells):
            bad = int(indices.max() if indices.max() >= self.n_cells else indices.min())
            raise ScxError(f"{self.name} has no cell {bad}.", f"Give a number from 0 to {self.n_cells - 1}.")
        with reading(self.name):
            found = self.columns.merge(self.matrix.rows(indices))
        self._check(found, indices)
        return found

    def _check(self, found: sp.csr_matrix, indices: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(found.data) | (found.data < 0))
        if not len(bad):
            return
        row = int(np.searchsorted(found.indptr, bad[0], side="right")) - 1
        raise ScxError(
            f"{self.name}: cell {self.cell_ids[indices[row]]} holds {found.data[bad[0]]} for "
            f"{self.symbols[found.indices[bad[0]]]} in {self.choices.values}.",
            "Remove such cells or genes, or choose another matrix as values.",
        )


def answers_to(labels: np.ndarray, answer_of: Mapping[str, str] | None) -> np.ndarray:
    """A model's answer for each label, "" where there is none; the labels themselves without a mapping."""
    if answer_of is None:
        return labels
    number_C, distinct = pd.factorize(labels)
    answers = [answer_of.get(label, "") if label else "" for label in distinct.tolist()]
    return np.array([*answers, ""], dtype=object)[number_C]
