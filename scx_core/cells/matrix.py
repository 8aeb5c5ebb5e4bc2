"""Row access to an expression matrix, in memory or on disk, without ever holding all of a big one.

Every class gives `shape`, `storage` (words for people), `n_stored` (values held, 0s included when
dense) and `rows(indices)`. On disk, arrays may be h5py datasets or zarr arrays: both slice alike.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from ..errors import ScxError

# Rows whose data lie closer than this are read in one go: a seek costs more than the skipped values.
MAX_GAP = 16_384
# A matrix stored by genes has to be read whole for any row; below this many values it is kept.
KEEP_CSC = 40_000_000
# Values read at a time when scanning a matrix stored by genes.
SCAN_BLOCK = 8_000_000
# Up to this many values a matrix is read through to find its empty rows; above, rows of few values are read.
READ_ALL, FEW_HELD, ROW_BLOCK = 20_000_000, 50, 2048


class RowMatrix(Protocol):
    """Cells × genes with row access. `scans`: any reading of rows has to go through the whole matrix."""

    shape: tuple[int, int]
    storage: str
    scans: bool = False

    @property
    def n_stored(self) -> int:
        """Number of values held."""

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """Rows in the given order, float32 [len(indices), n_vars]; repeated indices are allowed."""

    def values_per_row(self) -> np.ndarray | None:
        """Number of values held for each row, or None where that would need a reading of the whole."""
        return None


def as_float32(values: Any, what: str = "The matrix") -> np.ndarray:
    """Numbers as float32; ScxError when they are text, objects or complex."""
    values = np.asarray(values)
    if values.dtype.kind not in "buif":
        raise ScxError(
            f"{what} holds values of type {values.dtype}, not real numbers.",
            "Write the expression as float32 or integers and save the file again.",
        )
    return values.astype(np.float32, copy=False)


class SomeColumns(RowMatrix):
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

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        return self._matrix.rows(indices)[:, self._columns]


def empty_rows(matrix: RowMatrix) -> np.ndarray:
    """Rows without a value other than 0, bool [n_cells], however they are stored.

    Up to `READ_ALL` values held, all rows are read. Above it, rows that hold few values are; where a storage
    does not tell how many a row holds, none of such a big matrix counts as empty.
    """
    n, held = matrix.shape[0], matrix.values_per_row()
    if matrix.n_stored <= READ_ALL:
        asked = np.arange(n)
    else:
        asked = np.flatnonzero(held <= FEW_HELD) if held is not None else np.empty(0, dtype=np.int64)
    empty = np.zeros(n, dtype=bool)
    for start in range(0, len(asked), ROW_BLOCK):
        at = asked[start : start + ROW_BLOCK]
        block = matrix.rows(at)
        empty[at] = np.bincount(block.nonzero()[0], minlength=len(at)) == 0
    return empty


class MemoryMatrix(RowMatrix):
    """A matrix that is already in memory, dense or sparse."""

    def __init__(self, values: Any) -> None:
        kind = getattr(values, "dtype", np.asarray(values).dtype).kind
        if kind not in "buif":
            as_float32(np.empty(0, dtype=values.dtype))
        sparse = sp.issparse(values)
        self._values: sp.csr_matrix | np.ndarray = sp.csr_matrix(values) if sparse else np.asarray(values)
        self.shape = tuple(self._values.shape)
        self.storage = "in memory, sparse" if sparse else "in memory, dense"

    @property
    def n_stored(self) -> int:
        """Number of values held."""
        return int(self._values.nnz if isinstance(self._values, sp.csr_matrix) else self._values.size)

    def values_per_row(self) -> np.ndarray | None:
        """Values held for each row; None when unknown."""
        if isinstance(self._values, sp.csr_matrix):
            return np.diff(self._values.indptr)
        return (self._values != 0).sum(axis=1)

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        return sp.csr_matrix(self._values[np.asarray(indices, dtype=np.int64)], dtype=np.float32)


class _CompressedOnDisk(RowMatrix):
    """What CSR and CSC have in common."""

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> None:
        self._data, self._indices = data, indices
        self._indptr = np.asarray(indptr[:], dtype=np.int64)
        self.shape = (int(shape[0]), int(shape[1]))
        check_pointers(self._indptr, self.shape[1 if self.scans else 0], data.shape[0], indices.shape[0])

    @property
    def n_stored(self) -> int:
        """Number of values held."""
        return int(self._indptr[-1])


class CsrOnDisk(_CompressedOnDisk):
    """Compressed rows on disk: only the asked rows' values are read, in few contiguous pieces."""

    storage = "on disk, compressed by cells (CSR)"

    def values_per_row(self) -> np.ndarray | None:
        """Values held for each row; None when unknown."""
        return np.diff(self._indptr)

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        wanted, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if not len(wanted):
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        start, end = self._indptr[wanted], self._indptr[wanted + 1]
        far = np.flatnonzero(start[1:] - end[:-1] > MAX_GAP) + 1
        pieces = [self._piece(run) for run in np.split(wanted, far)]
        sorted_rows = pieces[0] if len(pieces) == 1 else sp.vstack(pieces, format="csr")
        return sorted_rows if np.array_equal(back, np.arange(len(wanted))) else sorted_rows[back]

    def _piece(self, run: np.ndarray) -> sp.csr_matrix:
        """Ascending rows that lie close together, read as one slice."""
        low, high = int(self._indptr[run[0]]), int(self._indptr[run[-1] + 1])
        data, columns = as_float32(self._data[low:high]), np.asarray(self._indices[low:high])
        length = self._indptr[run + 1] - self._indptr[run]
        pointer = np.concatenate([[0], np.cumsum(length)])
        if pointer[-1] != high - low:
            take = np.repeat(self._indptr[run] - low - pointer[:-1], length) + np.arange(pointer[-1])
            data, columns = data[take], columns[take]
        check_columns(columns, self.shape[1])
        return sp.csr_matrix((data, columns, pointer), shape=(len(run), self.shape[1]))


class CscOnDisk(_CompressedOnDisk):
    """Compressed columns on disk. Rows need a scan of all values: kept when small, else block by block."""

    scans = True
    storage = "on disk, compressed by genes (CSC)"
    _kept: sp.csr_matrix | None = None

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        indices = np.asarray(indices, dtype=np.int64)
        if self.n_stored > KEEP_CSC:
            return self._scan(indices)
        if self._kept is None:
            self._kept = self._scan(np.arange(self.shape[0]))
        return self._kept[indices]

    def _scan(self, indices: np.ndarray) -> sp.csr_matrix:
        wanted, back = np.unique(indices, return_inverse=True)
        new_row = np.full(self.shape[0], -1, dtype=np.int64)
        new_row[wanted] = np.arange(len(wanted))
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for low in range(0, self.n_stored, SCAN_BLOCK):
            high = min(low + SCAN_BLOCK, self.n_stored)
            old = np.asarray(self._indices[low:high])
            check_columns(old, self.shape[0])
            hit = np.flatnonzero(new_row[old] >= 0)
            column = np.searchsorted(self._indptr, hit + low, side="right") - 1
            found.append((as_float32(self._data[low:high])[hit], new_row[old[hit]], column))
        if not found:
            return sp.csr_matrix((len(indices), self.shape[1]), dtype=np.float32)
        data, row, column = (np.concatenate(part) for part in zip(*found, strict=True))
        return sp.csr_matrix((data, (row, column)), shape=(len(wanted), self.shape[1]))[back]


class DenseOnDisk(RowMatrix):
    """A dense array on disk: runs of neighbouring rows are read together."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape = (int(values.shape[0]), int(values.shape[1]))
        self.storage = "on disk, dense"
        if np.dtype(values.dtype).kind not in "buif":
            as_float32(np.empty(0, dtype=values.dtype))

    @property
    def n_stored(self) -> int:
        """Number of values held."""
        return self.shape[0] * self.shape[1]

    def rows(self, indices: np.ndarray) -> sp.csr_matrix:
        """The rows asked for."""
        wanted, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if not len(wanted):
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
        pieces = [sp.csr_matrix(as_float32(self._values[int(run[0]) : int(run[-1]) + 1])) for run in runs]
        return sp.vstack(pieces, format="csr")[back]


def check_pointers(indptr: np.ndarray, n: int, n_data: int, n_indices: int) -> None:
    """ScxError when the parts of a compressed matrix contradict each other."""
    if len(indptr) != n + 1:
        problem = f"the pointer array has {len(indptr):,} entries where {n + 1:,} are expected"
    elif indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        problem = "the pointer array does not ascend from 0"
    elif indptr[-1] != n_data or n_data != n_indices:
        problem = f"{n_data:,} values, {n_indices:,} indices and a last pointer of {indptr[-1]:,} disagree"
    else:
        return
    raise ScxError(f"the sparse matrix is damaged: {problem}.", "Write or download the file again.")


def check_columns(columns: np.ndarray, n: int) -> None:
    """ScxError when an index points outside the matrix."""
    if len(columns) and (columns.min() < 0 or columns.max() >= n):
        raise ScxError(
            f"the sparse matrix is damaged: the index {int(columns.max()):,} lies outside its {n:,} entries.",
            "Write or download the file again.",
        )
