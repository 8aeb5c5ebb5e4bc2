"""Logistic regression on the same genes and cells: what a model of the sentence has to better.

Legend: C cells, G genes.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from scx_core.cells import CellTable
from scx_core.validation.held_out_rows import draw_rows

MOST_CELLS, SEED = 5000, 0  # training cells that it is fitted on at most, drawn with the seed
STRENGTH, STEPS = 1.0, 500  # scikit-learn's C; steps of L-BFGS at most
TOTAL = 1e4  # counts are scaled to so many a cell before log1p
LOGGED = ("log-normalised", "averages", "scaled")  # kinds of values that are taken as they are


def logistic_labels(
    table: CellTable, train_rows: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, int] | None:
    """The labels that a multinomial logistic regression, fitted on `train_rows`, gives the cells `rows`, and
    how many cells it was fitted on. None where the training cells have fewer than two labels.

    Input: log-normalised expression of all the table's genes, each divided by its standard deviation in the
    training cells; L2 penalty with C = 1, not tuned.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fit = draw_rows(np.sort(np.asarray(train_rows, dtype=np.int64)), MOST_CELLS, SEED)
    labels_C = table.labels[fit].astype(str)
    if len(set(labels_C.tolist())) < 2:
        return None
    x_CG = expression(table, fit)
    scale_G = _deviation(x_CG)
    model = LogisticRegression(C=STRENGTH, max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last steps move no label
        model.fit(x_CG.multiply(1 / scale_G).tocsr(), labels_C)
    return model.predict(expression(table, rows).multiply(1 / scale_G).tocsr()).astype(str), len(fit)


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
