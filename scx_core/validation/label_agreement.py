"""The labels that a model gives the cells, and shares of cells with their intervals.

Legend: B cells of a batch, C all cells, K candidate labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scx_core.language import Language, predicted, replaced_mlps, score_labels
from scx_core.language.hooks import Stand_in
from scx_core.metrics import agreement
from scx_core.statistics.intervals import Interval, bootstrap, wilson
from scx_core.validation.held_out_texts import Texts
from scx_core.validation.result import Confusion

ORIGINAL, TRANSCODER = "original", "transcoder"


class Answers:
    """The label that the model gives each test cell, with its own MLPs and with others in their place."""

    def __init__(self, candidates: Sequence[str], lead: str) -> None:
        self.candidates, self.lead = tuple(candidates), lead
        self._truth: list[np.ndarray] = []
        self._said: dict[str, list[np.ndarray]] = {}

    def add(self, lm: Language, texts: Texts, stand_ins: Mapping[str, Mapping[int, Stand_in]]) -> None:
        """Score the whole answer of every candidate for the cells of one batch: with the model as it is, and
        with each of the `stand_ins`."""
        self._truth.append(np.array([self.candidates.index(label) for label in texts.labels]))
        for name, mlps in {ORIGINAL: {}, **stand_ins}.items():
            with replaced_mlps(lm, mlps):
                scores_BK = score_labels(lm, texts.cells, self.candidates, self.lead, batch=len(texts.cells))
            said = [self.candidates.index(label) for label in predicted(scores_BK, self.candidates)]
            self._said.setdefault(name, []).append(np.array(said))

    @property
    def truth_C(self) -> np.ndarray:
        """Number of each cell's true label."""
        return np.concatenate(self._truth)

    def said_C(self, name: str) -> np.ndarray:
        """Number of the label that each cell was given."""
        return np.concatenate(self._said[name])

    def right_C(self, name: str) -> np.ndarray:
        """Whether each cell was named rightly."""
        return self.said_C(name) == self.truth_C

    def kept_C(self, name: str) -> np.ndarray:
        """Whether each cell has the label that the original model gives it."""
        return self.said_C(name) == self.said_C(ORIGINAL)

    def accuracy(self, name: str) -> float:
        """Share of the cells that are named rightly."""
        return agreement(self.said_C(name), self.truth_C)

    def agreement(self, name: str) -> float:
        """Share of the cells that keep the original model's label."""
        return agreement(self.said_C(name), self.said_C(ORIGINAL))

    @property
    def confusion(self) -> Confusion:
        """Both tables as plain numbers."""
        tables = []
        for name in (ORIGINAL, TRANSCODER):
            table_KK = np.zeros((len(self.candidates),) * 2, dtype=np.int64)
            np.add.at(table_KK, (self.truth_C, self.said_C(name)), 1)
            tables.append(tuple(map(tuple, table_KK.tolist())))
        return Confusion(self.candidates, *tables)


def share(yes_C: np.ndarray) -> tuple[float, Interval]:
    """A share of cells with Wilson's interval."""
    return float(yes_C.mean()), wilson(int(yes_C.sum()), len(yes_C))


def balanced(
    truth_C: np.ndarray, right_C: np.ndarray, groups_C: np.ndarray | None = None
) -> tuple[float, Interval]:
    """Balanced accuracy: the mean over true labels of the share that is named rightly, so that each type
    counts the same; with its bootstrap interval over cells (or whole groups)."""
    labels = np.unique(truth_C)
    mine_CK = truth_C[:, None] == labels[None]
    sums_CS = np.concatenate([mine_CK, mine_CK & right_C[:, None]], 1).astype(np.float64)

    def figure(totals_RS: np.ndarray) -> np.ndarray:
        n_RK, right_RK = np.split(totals_RS, 2, axis=1)
        shares_RK = np.divide(right_RK, n_RK, out=np.zeros_like(n_RK), where=n_RK > 0)
        return shares_RK.sum(1) / np.maximum(1, (n_RK > 0).sum(1))

    return float(figure(sums_CS.sum(0)[None])[0]), bootstrap(sums_CS, figure, groups_C)


def difference(
    yes_C: np.ndarray, other_C: np.ndarray, groups_C: np.ndarray | None = None
) -> tuple[float, Interval]:
    """Share of `yes` less the share of `other`, of the same cells, with a paired bootstrap interval."""
    apart_C = yes_C.astype(np.float64) - other_C.astype(np.float64)
    sums_CS = np.stack([apart_C, np.ones(len(apart_C))], 1)
    return float(apart_C.mean()), bootstrap(sums_CS, lambda totals: totals[:, 0] / totals[:, 1], groups_C)
