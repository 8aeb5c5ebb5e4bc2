"""How much of a cell sentence a tie decides: genes of equal expression are ordered by a seed.

Legend: C cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.sentences.rank import BLOCK, ExpressionRows

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
