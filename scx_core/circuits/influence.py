"""Influence, cuts and scores on a graph of edges: pure functions of matrices (method §6).

Rows are the nodes that have input (features first, the target last), columns the nodes that give it
(the same features first, then errors, then tokens). Bias nodes stay out, as in published scores.
Legend: R rows = C features + 1 target, S columns = C features + E errors + T tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Influence(NamedTuple):
    """`column_S`: influence of every source on the target. `row_R`: of every row, 1 for the target."""

    column_S: np.ndarray
    row_R: np.ndarray


class Cut(NamedTuple):
    """What is kept: boolean [S] for columns, boolean [R, S] for edges."""

    column_S: np.ndarray
    edge_RS: np.ndarray


def normalised(edge_RS: np.ndarray, rest_abs_R: np.ndarray | None = None) -> np.ndarray:
    """Â = |A| / row sum; `rest_abs_R` adds the input from nodes outside the graph to the sum."""
    size_RS = np.abs(edge_RS)
    total_R = size_RS.sum(1) + (0.0 if rest_abs_R is None else rest_abs_R)
    return np.divide(size_RS, total_R[:, None], out=np.zeros_like(size_RS), where=total_R[:, None] > 0)


def influence(share_RS: np.ndarray) -> Influence:
    """I = w(Â + Â² + …) with w = 1 on the target, the last row. Ends because the graph has no cycles."""
    n = share_RS.shape[0] - 1
    step_R = np.zeros(n + 1)
    step_R[n] = 1.0
    column_S, row_R = np.zeros(share_RS.shape[1]), step_R.copy()
    for _ in range(n + 1):
        step_S = step_R @ share_RS
        if not step_S.any():
            break
        column_S += step_S
        step_R = np.append(step_S[:n], 0.0)
        row_R += step_R
    return Influence(column_S, row_R)


def smallest_set(score: np.ndarray, share: float) -> np.ndarray:
    """Boolean mask of the smallest set that reaches `share` of the sum; ties by position."""
    flat = score.ravel()
    kept = np.zeros(flat.shape, dtype=bool)
    total = flat.sum()
    if total > 0:
        order = np.argsort(-flat, kind="stable")
        reached = np.cumsum(flat[order]) >= share * total * (1 - 1e-12)
        kept[order[: int(np.argmax(reached)) + 1]] = True
        kept &= flat > 0
    return kept.reshape(score.shape)


def cut(share_RS: np.ndarray, scores: Influence, node_share: float, edge_share: float) -> Cut:
    """Node cut, edge cut, then drop what dangles: features need an input and a way to the target.

    Edge score Â_ij · I_i (the target's own influence is its weight, 1). Idempotent on its own result.
    """
    n = share_RS.shape[0] - 1
    column_S = smallest_set(scores.column_S, node_share)
    row_R: np.ndarray = np.append(column_S[:n], True)
    score_RS = share_RS * scores.row_R[:, None] * row_R[:, None] * column_S[None, :]
    edge_RS = smallest_set(score_RS, edge_share)
    while True:
        has_output_S: np.ndarray = np.asarray(edge_RS.any(0))
        has_input_R: np.ndarray = np.asarray(edge_RS.any(1))
        alive_S = column_S & has_output_S
        alive_S[:n] &= has_input_R[:n]
        kept_RS = edge_RS & alive_S[None, :] & np.append(alive_S[:n], True)[:, None]
        if (alive_S == column_S).all() and (kept_RS == edge_RS).all():
            return Cut(column_S, edge_RS)
        column_S, edge_RS = alive_S, kept_RS


def replacement_score(column_S: np.ndarray, n_features: int, n_errors: int) -> float:
    """I(tokens) / (I(tokens) + I(errors)): share of the flow that ends in tokens and not in errors."""
    errors = column_S[n_features : n_features + n_errors].sum()
    tokens = column_S[n_features + n_errors :].sum()
    return float(tokens / (tokens + errors)) if tokens + errors > 0 else 0.0


def completeness_score(share_RS: np.ndarray, row_R: np.ndarray, n_features: int, n_errors: int) -> float:
    """Influence-weighted share of each node's input that is not error."""
    error_R = share_RS[:, n_features : n_features + n_errors].sum(1)
    return float(1 - (row_R * error_R).sum() / row_R.sum())
