"""Rank the genes of a cell by expression, ties broken by an explicit seed.

How much of a sentence a tie decides is a share of its genes (`ties_of`).
Two ways to one order: compiled (kernel.py) for blocks that are worth it, plain numpy for the rest.
Legend: C cells, G genes, N non-zero entries of the block, R ranks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse

BLOCK = 2048
# Entries of a block from which on it is worth loading the compiled way, as more such blocks will follow.
WORTH_COMPILING = 2**18


class ExpressionRows(Protocol):
    """What ranking needs of a cell table: symbols and rows on demand."""

    @property
    def symbols(self) -> np.ndarray:
        """Upper-case names of the columns, [G]."""

    def rows(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Expression of the cells at `indices`, float32 [C, G]."""


def _mix(x_N: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: spreads every input bit over the 64 output bits."""
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x_N ^ (x_N >> np.uint64(31))


def tie_keys(cell_N: np.ndarray, gene_N: np.ndarray, seed: int) -> np.ndarray:
    """Pseudo-random uint64 key for every (cell, gene): orders the ties of a cell.

    A hash and not a generator, so that a cell's sentence does not depend on which other cells were
    read with it, nor on the block size.
    """
    with np.errstate(over="ignore"):
        cell_N = _mix(cell_N.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1))
        return _mix(cell_N ^ (gene_N.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)))


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled way; None, said once, where numba cannot be imported."""
    try:
        from scx_core.sentences.kernel import rank_rows
    except ImportError as error:
        warnings.warn(f"Cells are ranked by numpy, many times slower: no numba ({error}).", stacklevel=4)
        return None
    return rank_rows


def rank_matrix(block: sparse.csr_matrix, cells: np.ndarray, n_genes: int, tie_seed: int) -> np.ndarray:
    """Column indices of each row's positive entries, highest first, int32 [C, R] with R ≤ `n_genes`; -1 where
    a row has no more.

    `cells` are the row numbers in the file (they key the ties). Normalisation by a cell's total does
    not change the order, so raw counts and log values give the same ranking up to ties.
    """
    block = block.tocsr()
    big = block.nnz >= WORTH_COMPILING and block.data.dtype == np.float32
    kernel = _kernel() if big else None
    if kernel is None:
        return rank_plain(block, cells, n_genes, tie_seed)
    most = int(np.diff(block.indptr).max())
    out_CR = np.empty((block.shape[0], min(n_genes, most)), np.int32)
    # Another kind of array would be compiled for anew.
    parts = ((block.data, "f4"), (block.indices, "i4"), (block.indptr, "i8"), (cells, "i8"))
    kernel(*(np.require(part, kind, ["C", "W"]) for part, kind in parts), np.uint64(tie_seed), out_CR)
    return out_CR


def rank_plain(block: sparse.csr_matrix, cells: np.ndarray, n_genes: int, tie_seed: int) -> np.ndarray:
    """What `rank_matrix` is, by numpy's sort of all entries."""
    row_N = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    positive = block.data > 0
    row_N, gene_N, value_N = row_N[positive], block.indices[positive], block.data[positive]
    key_N = tie_keys(np.asarray(cells)[row_N], gene_N, tie_seed)
    order = np.lexsort((key_N, -value_N, row_N))
    starts = np.searchsorted(row_N, np.arange(block.shape[0] + 1))
    rank_N = np.arange(len(row_N)) - starts[row_N]  # the sort keeps every row's entries in their places
    kept = rank_N < n_genes
    most = int(np.diff(starts).max(initial=0))
    out_CR = np.full((block.shape[0], min(n_genes, most)), -1, np.int32)
    out_CR[row_N[kept], rank_N[kept]] = gene_N[order][kept]
    return out_CR


def rank_genes(block: sparse.csr_matrix, cells: np.ndarray, n_genes: int, tie_seed: int) -> list[np.ndarray]:
    """Each row of `rank_matrix` without what is not there."""
    return [genes[genes >= 0] for genes in rank_matrix(block, cells, n_genes, tie_seed)]


def gene_sentences(
    table: ExpressionRows, rows: Sequence[int] | np.ndarray, n_genes: int, tie_seed: int
) -> list[list[str]]:
    """The cell sentence of each row as a list of symbols, highest expression first.

    Reads `BLOCK` rows at a time, so memory does not grow with the file.
    """
    rows = np.asarray(rows, dtype=np.int64)
    out: list[list[str]] = []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        ranked = rank_genes(table.rows(part), part, n_genes, tie_seed)
        out.extend([str(symbol) for symbol in table.symbols[genes]] for genes in ranked)
    return out


MOST_CELLS = 2000  # that a summary reads


class Ties(NamedTuple):
    """Means over cells of two shares of a sentence's genes.

    `member`: those that are in the sentence by the seed, because genes of the same expression stayed out;
    `low` and `high` are its 95% interval over cells. `place`: those whose place is the seed's, because
    another gene of the cell has the same expression.
    """

    member: float
    low: float
    high: float
    place: float
    n_cells: int

    def words(self, unit: str = "cell") -> str:
        """One sentence for people."""
        return (
            f"A tie decides {self.member:.0%} [{self.low:.0%}, {self.high:.0%}] of a sentence's genes "
            f"(others of the same expression stayed out, by a seed) and the place of {self.place:.0%}; "
            f"n = {self.n_cells:,} {unit}s."
        )


def tie_shares(
    table: ExpressionRows, rows: Sequence[int] | np.ndarray, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """`member` and `place` of every cell, float [C] each; 0 where a cell has no gene."""
    rows = np.asarray(rows, dtype=np.int64)
    member_C, place_C = np.zeros(len(rows)), np.zeros(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = table.rows(rows[start : start + BLOCK]).tocsr()
        for at, (first, last) in enumerate(zip(block.indptr, block.indptr[1:], strict=False), start):
            values = block.data[first:last]
            values = np.sort(values[values > 0])[::-1]
            inside = values[:n_genes]
            if not len(inside):
                continue
            _, number, count = np.unique(values, return_inverse=True, return_counts=True)
            place_C[at] = (count[number[: len(inside)]] > 1).mean()
            if len(values) > n_genes:
                member_C[at] = (inside == values[n_genes]).mean()
    return member_C, place_C


def ties_of(table: ExpressionRows, rows: Sequence[int] | np.ndarray, n_genes: int, seed: int = 0) -> Ties:
    """The means over these cells; over `MOST_CELLS` of them, drawn with the seed, where they are more."""
    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    member_C, place_C = tie_shares(table, rows, n_genes)
    if not len(rows):
        return Ties(0.0, 0.0, 0.0, 0.0, 0)
    mean, n = float(member_C.mean()), len(rows)
    reach = 1.96 * float(member_C.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    low, high = max(0.0, float(mean - reach)), min(1.0, float(mean + reach))
    return Ties(mean, low, high, float(place_C.mean()), n)
