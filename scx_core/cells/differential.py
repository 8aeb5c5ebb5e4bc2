"""Differential expression of one group of cells against another: what needs no model (Welch's t-test).

The scores are those of `scanpy.tl.rank_genes_groups(method="t-test")` with the other cells as the reference,
and of its `wilcoxon`; the t-test is made from means and variances alone, without loading scanpy.
Legend: C cells, G genes.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.stats import ttest_ind_from_stats

from scx_core.environment import threads_of_torch

from .cell_table import CellTable

CELLS_A_TYPE = 500  # of a larger type so many are drawn
COUNTS_A_CELL = 1e4  # counts are brought to this sum before the logarithm, scanpy's usual choice
BLOCK = 2048  # rows that are read at once


class GeneMoments(NamedTuple):
    """Of a group of cells: how many, and mean and variance (ddof 1) of every gene, [G] each."""

    n: int
    mean_G: np.ndarray
    variance_G: np.ndarray


def log_expression(table: CellTable, rows: Sequence[int] | np.ndarray) -> sp.csr_matrix:
    """Log-normalised expression of some cells, float32 CSR [C, G]: what is logged already stays as it is."""
    block = table.rows(np.asarray(rows))
    if "counts" in table.values_kind:
        total_C = np.maximum(np.asarray(block.sum(1)).ravel(), 1e-12)
        block = sp.csr_matrix(sp.diags_array(COUNTS_A_CELL / total_C).astype(np.float32) @ block)
    return block if table.values_kind == "log-normalised" else block.log1p()


def moments(table: CellTable, rows: Sequence[int] | np.ndarray) -> GeneMoments:
    """Mean and variance of the log-normalised genes over some cells, read a block at a time."""
    rows = np.asarray(rows)
    sum_G, square_G = np.zeros(table.n_genes), np.zeros(table.n_genes)
    for start in range(0, len(rows), BLOCK):
        block = log_expression(table, rows[start : start + BLOCK]).astype(np.float64)
        sum_G += np.asarray(block.sum(0)).ravel()
        square_G += np.asarray(block.multiply(block).sum(0)).ravel()
    n = max(1, len(rows))
    mean_G = sum_G / n
    return GeneMoments(len(rows), mean_G, (square_G / n - mean_G**2).clip(min=0.0) * n / max(1, n - 1))


def t_scores(own: GeneMoments, others: GeneMoments) -> np.ndarray:
    """Welch's t of every gene, [G]; 0 where neither group varies or a group has fewer than two cells."""
    if min(own.n, others.n) < 2:
        return np.zeros(len(own.mean_G))
    parts = [(one.mean_G, np.sqrt(one.variance_G), one.n) for one in (own, others)]
    with np.errstate(divide="ignore", invalid="ignore"):
        score_G, _ = ttest_ind_from_stats(*parts[0], *parts[1], equal_var=False)
    return np.where(np.isfinite(score_G), score_G, 0.0)


def wilcoxon_scores(
    table: CellTable, own: Sequence[int] | np.ndarray, others: Sequence[int] | np.ndarray
) -> np.ndarray:
    """scanpy's Wilcoxon rank-sum scores of some cells against others, [G]."""
    import anndata
    import pandas as pd
    import scanpy as sc

    matrix = log_expression(table, np.concatenate([own, others]))
    groups = pd.Categorical(["own"] * len(own) + ["others"] * len(others))
    data = anndata.AnnData(matrix, pd.DataFrame({"group": groups}, index=map(str, range(len(groups)))))
    data.var_names = [str(number) for number in range(table.n_genes)]
    with threads_of_torch():
        sc.tl.rank_genes_groups(data, "group", groups=["own"], reference="others", method="wilcoxon")
    found = data.uns["rank_genes_groups"]
    score_G = np.zeros(table.n_genes)
    score_G[found["names"]["own"].astype(int)] = found["scores"]["own"]
    return np.where(np.isfinite(score_G), score_G, 0.0)


def rows_by_type(table: CellTable, most: int = CELLS_A_TYPE, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of each labelled type, ascending; of a type with more than `most` cells, so many drawn."""
    rng = np.random.default_rng(seed)
    found = {}
    for label in table.types:
        rows = np.flatnonzero(table.labels == label)
        found[label] = rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
    return found


def differential_genes(table: CellTable, label: str, n: int = 10, most: int = CELLS_A_TYPE) -> list[str]:
    """The `n` genes that tell a type from all other cells best (t-test, strongest first, raised ones only).

    Of types with more than `most` cells so many are read, once for a table. Empty when the table has no such
    type or no other.
    """
    found = _by_type(table, most)
    others = [held for name, held in found.items() if name != label]
    if label not in found or not others:
        return []
    return strongest(table.symbols, t_scores(found[label], pooled(others)), n)


def type_sizes(table: CellTable, most: int = CELLS_A_TYPE) -> dict[str, int]:
    """How many cells of each type `differential_genes` reads."""
    return {label: min(most, int((table.labels == label).sum())) for label in table.types}


def pooled(parts: Sequence[GeneMoments]) -> GeneMoments:
    """The moments of several groups of cells taken together."""
    n = sum(one.n for one in parts)
    mean_G = np.sum([one.n * one.mean_G for one in parts], 0) / max(1, n)
    square_G = np.sum([(one.n - 1) * one.variance_G + one.n * (one.mean_G - mean_G) ** 2 for one in parts], 0)
    return GeneMoments(n, mean_G, square_G / max(1, n - 1))


_KEPT: weakref.WeakKeyDictionary[CellTable, dict[int, dict[str, GeneMoments]]] = weakref.WeakKeyDictionary()


def _by_type(table: CellTable, most: int) -> dict[str, GeneMoments]:
    """The moments of every type, read once as long as the table lives."""
    kept = _KEPT.setdefault(table, {}) if isinstance(table, CellTable) else {}
    if most not in kept:
        kept[most] = {label: moments(table, rows) for label, rows in rows_by_type(table, most).items()}
    return kept[most]


def strongest(symbols: np.ndarray, score_G: np.ndarray, n: int | None = None) -> list[str]:
    """Genes with a positive score, highest first, ties in the table's order."""
    order = np.argsort(-score_G, kind="stable")[: int((score_G > 0).sum())]
    return [str(symbol) for symbol in symbols[order[:n]]]
