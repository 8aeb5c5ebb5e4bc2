"""Real rows held against a model of other data: its answers beside two that need no language model.

The rivals read all genes that both tables have, the model its sentence. They are a logistic regression on
log-normalised expression, fitted on the cells that the model was trained on, and the nearest mean profile (by
Pearson correlation of log-normalised expression). Types may have other names: `same` says what is right.
Legend: C rows, G genes, T profiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.statistics.intervals import wilson
from scx_core.validation.label_agreement import balanced, expression, fit_logistic

MODEL, LOGISTIC, NEAREST = "model", "logistic regression", "nearest profile"


class Rater(NamedTuple):
    """Who names the rows. `of_type`: (right, rows) of each type; `p`: exact McNemar test against the model
    (None for the model itself); `given`: how often each answer was given."""

    name: str
    right: int
    n: int
    low: float
    high: float
    balanced: float
    of_type: dict[str, tuple[int, int]]
    given: dict[str, dict[str, int]]
    model_only: int | None
    rival_only: int | None
    p: float | None

    @property
    def accuracy(self) -> float:
        """Share of the rows that are named rightly."""
        return self.right / self.n

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, with the interval of each type's share."""
        types = {
            name: {"right": k, "n": n, "low": wilson(k, n).low, "high": wilson(k, n).high}
            for name, (k, n) in self.of_type.items()
        }
        return self._asdict() | {"accuracy": self.accuracy, "of_type": types}


def rate_rows(
    tracer: Tracer,
    train: CellTable,
    train_rows: np.ndarray,
    same: Mapping[str, Sequence[str]],
    profiles: tuple[CellTable, np.ndarray] | None = None,
) -> tuple[Rater, ...]:
    """The model, the logistic regression and (with `profiles`: a table and its rows) the nearest profile, on
    all rows of the tracer's table whose label is in `same` (label → right answers).

    The three tables must hold the same genes in the same order.
    """
    table = tracer.table
    rows = np.flatnonzero(np.isin(table.labels.astype(str), list(same)))
    truth_C = table.labels[rows].astype(str)
    answers = {MODEL: np.array(tracer.predict(rows))}
    answers[LOGISTIC] = fit_logistic(train, train_rows).labels_of(table, rows)
    if profiles is not None:
        answers[NEAREST] = nearest_profiles(table, rows, *profiles)
    right = {
        name: np.array([one in same[label] for one, label in zip(given, truth_C, strict=True)])
        for name, given in answers.items()
    }
    return tuple(_rater(name, answers[name], right, truth_C) for name in answers)


def nearest_profiles(
    table: CellTable, rows: np.ndarray, profiles: CellTable, profile_rows: np.ndarray
) -> np.ndarray:
    """The label of the profile with the highest Pearson correlation of log-normalised genes, [C]."""
    x_CG, y_TG = (expression(one, at).toarray() for one, at in ((table, rows), (profiles, profile_rows)))
    parts = [one - one.mean(1, keepdims=True) for one in (x_CG, y_TG)]
    x_CG, y_TG = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in parts)
    return profiles.labels[profile_rows].astype(str)[(x_CG @ y_TG.T).argmax(1)]


def _rater(name: str, given: np.ndarray, right: Mapping[str, np.ndarray], truth_C: np.ndarray) -> Rater:
    own_C, model_C = right[name], right[MODEL]
    k, n = int(own_C.sum()), len(own_C)
    types = sorted(set(truth_C.tolist()))
    only = (int((model_C & ~own_C).sum()), int((own_C & ~model_C).sum()))
    p = None if name == MODEL else binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
    counts = {}
    for label in types:
        answers, times = np.unique(given[truth_C == label], return_counts=True)
        counts[label] = dict(zip(answers.tolist(), times.tolist(), strict=True))
    return Rater(
        name,
        k,
        n,
        *wilson(k, n),
        balanced(truth_C, own_C)[0],
        {label: (int(own_C[truth_C == label].sum()), int((truth_C == label).sum())) for label in types},
        counts,
        None if name == MODEL else only[0],
        None if name == MODEL else only[1],
        None if p is None else float(p),
    )
