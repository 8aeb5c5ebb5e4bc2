"""Token slots: what a feature may respond to, whatever the cell, and the permutations of the two nulls.

A slot is (class, gene, piece of the gene, token id). Activations are added to the slots of their tokens, and
once more to the slots of other tokens for the nulls:
- activations shuffled: within a cell, slots and ranks are permuted among the tokens of a class, and classes
  over the whole cell; cell types are permuted over the cells;
- genes shuffled: within a cell the genes' names are permuted, the tokens of a gene staying together.
Legend: T tokens of a cell, N counted tokens of a batch, J bins of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.sentences import ANSWER, GENE, TOKEN_CLASSES, EncodedCell

REAL, ACTIVATIONS, GENES = 0, 1, 2
DATA = ("real", "activations shuffled", "genes shuffled")


class TokenSlots:
    """Numbers for slots, in the order of their first appearance. Grows with genes, not with cells."""

    def __init__(self) -> None:
        self._number: dict[tuple[int, str, int, int], int] = {}

    def __len__(self) -> int:
        return len(self._number)

    def of(self, cell: EncodedCell, answer: Sequence[int]) -> np.ndarray:
        """The slot of every token of prompt and answer, [T]."""
        number, kinds = self._number, cell.class_T.tolist()
        keys = [(kind, "", 0, token) for kind, token in zip(kinds, cell.ids, strict=True)]
        for span in cell.spans:
            for t in range(span.start, span.end):
                keys[t] = (GENE, span.gene, t - span.start, cell.ids[t])
        keys += [(ANSWER, "", 0, token) for token in answer]
        return np.array([number.setdefault(key, len(number)) for key in keys])

    def table(self) -> pd.DataFrame:
        """One row a slot: class, gene ("" outside genes), piece (0 is the gene's first), token."""
        return pd.DataFrame(list(self._number), columns=["class", "gene", "piece", "token"])


def rank_bin(rank: np.ndarray) -> np.ndarray:
    """Bin of a rank that counts from 1: 1, 2, 3–4, 5–8, 9–16, …"""
    return np.ceil(np.log2(np.maximum(rank, 1))).astype(np.int64)


def bin_ends(number: int) -> tuple[int, int]:
    """First and last rank of a bin."""
    return (1, 1) if number == 0 else (2 ** (number - 1) + 1, 2**number)


class BinLayout(NamedTuple):
    """How many bins each tally has; the last one of each is for tokens that have no place in it."""

    ranks: int
    types: int
    donors: int

    def starts(self) -> dict[str, slice]:
        """The rows of each tally among the bins of one half."""
        sizes = {
            "class": len(TOKEN_CLASSES),
            "class_null": len(TOKEN_CLASSES),
            "rank": self.ranks + 1,
            "rank_null": self.ranks + 1,
            "type": self.types + 1,
            "type_null": self.types + 1,
            "donor": self.donors + 1,
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    @property
    def n_bins(self) -> int:
        """Bins of one half."""
        return self.starts()["donor"].stop


class CellAssignment(NamedTuple):
    """A cell's row in the table, half, cell type, permuted cell type and donor; the last number is "none"."""

    row: int
    half: int
    type: int
    type_null: int
    donor: int


class PlacedTokens(NamedTuple):
    """The counted tokens of a cell, position 0 left out: bins of the small tallies, those of each token
    [T, 4] and those of the whole cell [3], slots by `DATA` [T, 3], and a random number in [0, 1) for each
    token that decides which are drawn as samples."""

    bin_TJ: np.ndarray
    bin_J: np.ndarray
    slot_TJ: np.ndarray
    draw_T: np.ndarray


def place_tokens(
    cell: EncodedCell,
    answer: Sequence[int],
    assigned: CellAssignment,
    slots: TokenSlots,
    layout: BinLayout,
    seed: int,
) -> PlacedTokens:
    """Bins and slots of one cell's tokens. A pure function of the cell, its row and the seed."""
    rng = np.random.default_rng([seed, assigned.row])
    slot_T = slots.of(cell, answer)
    n = len(slot_T)
    class_T = np.concatenate([cell.class_T, np.full(len(answer), ANSWER)]).astype(np.int64)
    span_T, piece_T = np.full(n, -1), np.zeros(n, dtype=np.int64)
    for number, span in enumerate(cell.spans):
        span_T[span.start : span.end] = number
        piece_T[span.start : span.end] = np.arange(span.end - span.start)
    rank_T = np.full(n, layout.ranks)
    ranks = rank_bin(np.array([span.rank for span in cell.spans]))
    rank_T[span_T >= 0] = ranks[span_T[span_T >= 0]]
    permuted_T = np.concatenate([[0], 1 + permuted_within(class_T[1:], rng)])  # position 0 takes no part
    columns = {
        "class": class_T,
        "class_null": np.concatenate([class_T[:1], rng.permutation(class_T[1:])]),
        "rank": rank_T,
        "rank_null": rank_T[permuted_T],
    }
    whole = {"type": assigned.type, "type_null": assigned.type_null, "donor": assigned.donor}
    first = {name: part.start + assigned.half * layout.n_bins for name, part in layout.starts().items()}
    bin_TJ = np.stack([column + first[name] for name, column in columns.items()], 1)
    bin_J = np.array([number + first[name] for name, number in whole.items()])
    names_T = _other_names(cell, slot_T, span_T, piece_T, rng)
    slot_TJ = np.stack([slot_T, slot_T[permuted_T], names_T], 1)
    return PlacedTokens(bin_TJ[1:], bin_J, slot_TJ[1:], rng.random(n)[1:])


def permuted_within(group_X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A permutation [X] that stays within groups."""
    order_X = np.arange(len(group_X))
    for group in np.unique(group_X):
        inside = np.flatnonzero(group_X == group)
        order_X[inside] = rng.permutation(inside)
    return order_X


def _other_names(
    cell: EncodedCell, slot_T: np.ndarray, span_T: np.ndarray, piece_T: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Slots when every gene of the cell bears another one's name; a piece too many counts as the last."""
    kept = [number for number, span in enumerate(cell.spans) if span.end > span.start]
    other = np.zeros(len(cell.spans), dtype=np.int64)
    other[kept] = rng.permutation(kept)
    start = np.array([span.start for span in cell.spans])
    size = np.array([span.end - span.start for span in cell.spans])
    names_T = slot_T.copy()
    inside = np.flatnonzero(span_T >= 0)
    owner = other[span_T[inside]]
    names_T[inside] = slot_T[start[owner] + np.minimum(piece_T[inside], size[owner] - 1)]
    return names_T
