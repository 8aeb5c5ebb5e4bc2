"""Rank the genes of a cell by expression, ties broken by an explicit seed.

Legend: C cells, G genes, N non-zero entries of the block.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

BLOCK = 2048


class Rows(Protocol):
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


def rank_genes(block: sparse.csr_matrix, cells: np.ndarray, n_genes: int, tie_seed: int) -> list[np.ndarray]:
    """Column indices of each row's positive entries, highest first, at most `n_genes` of them.

    `cells` are the row numbers in the file (they key the ties). Normalisation by a cell's total does
    not change the order, so raw counts and log values give the same ranking up to ties.
    """
    block = block.tocsr()
    row_N = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    positive = block.data > 0
    row_N, gene_N, value_N = row_N[positive], block.indices[positive], block.data[positive]
    key_N = tie_keys(np.asarray(cells)[row_N], gene_N, tie_seed)
    order = np.lexsort((key_N, -value_N, row_N))
    starts = np.searchsorted(row_N[order], np.arange(block.shape[0] + 1))
    return [gene_N[order[a : min(b, a + n_genes)]] for a, b in itertools.pairwise(starts)]


def gene_sentences(
    table: Rows, rows: Sequence[int] | np.ndarray, n_genes: int, tie_seed: int
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
