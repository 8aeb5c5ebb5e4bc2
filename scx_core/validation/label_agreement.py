"""The labels that a model gives the cells, beside those of logistic regression on the same genes and cells;
shares of cells with their intervals.

Legend: B cells of a batch, C all cells, K candidate labels, G genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from scx_core.cells import CellTable
from scx_core.language import (
    Language,
    answer_form,
    answer_labels,
    encode_cells,
    predicted,
    replaced_mlps,
    score_labels,
    with_answers,
)
from scx_core.language.answer_tree import token_scores
from scx_core.language.hooks import Stand_in
from scx_core.metrics import agreement
from scx_core.statistics.intervals import Interval, bootstrap, wilson
from scx_core.validation.held_out import Texts, draw_rows
from scx_core.validation.result import Confusion

ORIGINAL, TRANSCODER = "original", "transcoder"


class Answers:
    """The label that the model gives each test cell, with its own MLPs and with others in their place."""

    def __init__(self, candidates: Sequence[str], lead: str) -> None:
        self.candidates, self.lead = tuple(candidates), lead
        self._truth: list[np.ndarray] = []
        self._labels: dict[str, list[np.ndarray]] = {}

    def expect(self, texts: Texts) -> None:
        """Take in the true labels of one batch."""
        self._truth.append(np.array([self.candidates.index(label) for label in texts.labels]))

    def add(
        self,
        lm: Language,
        texts: Texts,
        name: str,
        hidden_BTd: torch.Tensor,
        stand_ins: Mapping[int, Stand_in],
    ) -> None:
        """Score the whole answer of every candidate for the cells of one batch from the hidden states of the
        pass that `stand_ins` made; where the answers are too many to stand behind the prompts, from passes of
        their own."""
        if texts.tree is None:
            with replaced_mlps(lm, stand_ins):
                scores_BK = score_labels(lm, texts.cells, self.candidates, self.lead, batch=len(texts.cells))
        else:
            hidden_BMd = hidden_BTd[:, -len(texts.tree.token_M) :]
            scores_BK = token_scores(lm, hidden_BMd, texts.tree).sum(-1)
        self._labels.setdefault(name, []).append(scores_BK.argmax(1))

    @property
    def truth_C(self) -> np.ndarray:
        """Number of each cell's true label."""
        return np.concatenate(self._truth)

    def label_C(self, name: str) -> np.ndarray:
        """Number of the label that each cell was given."""
        return np.concatenate(self._labels[name])

    def right_C(self, name: str) -> np.ndarray:
        """Whether each cell was named rightly."""
        return self.label_C(name) == self.truth_C

    def same_label_C(self, name: str) -> np.ndarray:
        """Whether each cell has the label that the original model gives it."""
        return self.label_C(name) == self.label_C(ORIGINAL)

    def accuracy(self, name: str) -> float:
        """Share of the cells that are named rightly."""
        return agreement(self.label_C(name), self.truth_C)

    def agreement(self, name: str) -> float:
        """Share of the cells that keep the original model's label."""
        return agreement(self.label_C(name), self.label_C(ORIGINAL))

    @property
    def confusion(self) -> Confusion:
        """Both tables as plain numbers."""
        tables = []
        for name in (ORIGINAL, TRANSCODER):
            table_KK = np.zeros((len(self.candidates),) * 2, dtype=np.int64)
            np.add.at(table_KK, (self.truth_C, self.label_C(name)), 1)
            tables.append(tuple(map(tuple, table_KK.tolist())))
        return Confusion(self.candidates, *tables)


def share(yes_C: np.ndarray) -> tuple[float, Interval]:
    """A share of cells with Wilson's interval."""
    return float(yes_C.mean()), wilson(int(yes_C.sum()), len(yes_C))


def balanced(
    truth_C: np.ndarray, right_C: np.ndarray, groups_C: np.ndarray | None = None
) -> tuple[float, Interval]:
    """Balanced accuracy: the mean over true labels of the share that is named rightly, so that each type
    counts the same; with its interval over cells (or whole groups, where it ends at 0 and 1)."""
    labels = np.unique(truth_C)
    mine_CK = truth_C[:, None] == labels[None]
    sums_CS = np.concatenate([mine_CK, mine_CK & right_C[:, None]], 1).astype(np.float64)

    def figure(totals_RS: np.ndarray) -> np.ndarray:
        n_RK, right_RK = np.split(totals_RS, 2, axis=1)
        shares_RK = np.divide(right_RK, n_RK, out=np.zeros_like(n_RK), where=n_RK > 0)
        return shares_RK.sum(1) / np.maximum(1, (n_RK > 0).sum(1))

    span = bootstrap(sums_CS, figure, groups_C)
    return float(figure(sums_CS.sum(0)[None])[0]), Interval(*map(float, np.clip(span, 0.0, 1.0)))


def difference(
    yes_C: np.ndarray, other_C: np.ndarray, groups_C: np.ndarray | None = None
) -> tuple[float, Interval]:
    """Share of `yes` less the share of `other`, of the same cells, with a paired interval that ends at −1 and
    1."""
    apart_C = yes_C.astype(np.float64) - other_C.astype(np.float64)
    sums_CS = np.stack([apart_C, np.ones(len(apart_C))], 1)
    span = bootstrap(sums_CS, lambda totals: totals[:, 0] / totals[:, 1], groups_C)
    return float(apart_C.mean()), Interval(*map(float, np.clip(span, -1.0, 1.0)))


def accuracy_by_tie_seed(
    lm: Language, table: CellTable, rows: np.ndarray, seeds: Sequence[int]
) -> dict[int, float]:
    """Label accuracy of the original model on `rows`, with the ties of every cell ordered by each seed."""
    table = with_answers(lm, table)
    labels, found = answer_labels(lm, table), {}
    lead = answer_form(lm, table).lead
    for seed in seeds:
        cells = encode_cells(lm, table, rows, sentences=replace(lm.sentence_config, tie_seed=seed))
        labels_given = predicted(score_labels(lm, cells, labels, lead), labels)
        found[seed] = float(np.mean(np.array(labels_given) == table.answers[rows]))
    return found


MOST_CELLS, SEED = 5000, 0  # training cells that it is fitted on at most, drawn with the seed
STRENGTH, STEPS = 1.0, 500  # scikit-learn's C; steps of L-BFGS at most
TOTAL = 1e4  # counts are scaled to so many a cell before log1p
LOGGED = ("log-normalised", "averages", "scaled")  # kinds of values that are taken as they are


class FittedLogistic(NamedTuple):
    """A multinomial logistic regression on `n` cells: the scale of each gene [G], and the classifier."""

    scale_G: np.ndarray
    model: Any
    n: int

    def labels_of(self, table: CellTable, rows: np.ndarray) -> np.ndarray:
        """The label that it gives each of the cells, str [C]; the table has the same genes in order."""
        return self.model.predict(expression(table, rows).multiply(1 / self.scale_G).tocsr()).astype(str)


def fit_logistic(table: CellTable, train_rows: np.ndarray) -> FittedLogistic:
    """Fit on `train_rows` (at most `MOST_CELLS` of them), which hold two labels or more.

    Input: log-normalised expression of all the table's genes, each divided by its standard deviation in the
    training cells; L2 penalty with C = 1, not tuned.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fit = draw_rows(np.sort(np.asarray(train_rows, dtype=np.int64)), MOST_CELLS, SEED)
    x_CG = expression(table, fit)
    scale_G = _deviation(x_CG)
    model = LogisticRegression(C=STRENGTH, max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last steps move no label
        model.fit(x_CG.multiply(1 / scale_G).tocsr(), table.labels[fit].astype(str))
    return FittedLogistic(scale_G, model, len(fit))


def logistic_labels(
    table: CellTable, train_rows: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, int] | None:
    """The labels that `fit_logistic` gives the cells `rows`, and how many cells it was fitted on. None where
    the training cells have fewer than two labels."""
    fit = draw_rows(np.sort(np.asarray(train_rows, dtype=np.int64)), MOST_CELLS, SEED)
    if len(set(table.labels[fit].tolist())) < 2:
        return None
    fitted = fit_logistic(table, fit)
    return fitted.labels_of(table, rows), fitted.n


def expression(table: CellTable, rows: np.ndarray) -> sparse.csr_matrix:
    """Log-normalised expression of some cells, float64 CSR [C, G]: counts and other linear values are scaled
    to 10,000 a cell, then log1p; what is logged already stays."""
    found_CG = sparse.csr_matrix(table.rows(rows), dtype=np.float64)
    if getattr(table, "values_kind", "counts") in LOGGED:
        return found_CG
    total_C = np.asarray(found_CG.sum(1)).ravel()
    scaled_CG = sparse.diags_array(TOTAL / np.maximum(total_C, 1e-12)) @ found_CG
    return sparse.csr_matrix(scaled_CG).log1p()


def _deviation(x_CG: sparse.csr_matrix) -> np.ndarray:
    """Standard deviation of every gene [G]; 1 where it never varies."""
    mean_G = np.asarray(x_CG.mean(0)).ravel()
    square_G = np.asarray(x_CG.multiply(x_CG).mean(0)).ravel()
    deviation_G = np.sqrt(np.maximum(square_G - mean_G**2, 0))
    return np.where(deviation_G > 1e-9, deviation_G, 1.0)
