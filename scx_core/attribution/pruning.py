"""Influence, pruning and scores on a graph of edges: pure functions of matrices (method §6).

Rows are the nodes that have input (features first, the target last), columns the nodes that give it
(the same features first, then errors, then tokens). Bias nodes stay out, as in published scores.
Legend: R rows = C features + 1 target, S columns = C features + E errors + T tokens; small letters: the
part of them that the pruning of nodes left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Influence(NamedTuple):
    """`column_S`: influence of every source on the target. `row_R`: of every row, 1 for the target."""

    column_S: np.ndarray
    row_R: np.ndarray


class Pruned(NamedTuple):
    """What is kept: boolean [S] for columns, boolean [R, S] for edges."""

    column_S: np.ndarray
    edge_RS: np.ndarray


def normalised(edge_RS: np.ndarray, rest_abs_R: np.ndarray | None = None) -> np.ndarray:
    """Â = |A| / row sum; `rest_abs_R` adds the input from nodes outside the graph to the sum."""
    share_RS = np.abs(edge_RS)
    total_R = share_RS.sum(1, dtype=np.float64) + (0.0 if rest_abs_R is None else rest_abs_R)
    inverse_R = np.divide(1.0, total_R, out=np.zeros_like(total_R), where=total_R > 0)
    share_RS *= inverse_R.astype(share_RS.dtype)[:, None]
    return share_RS


def influence(share_RS: np.ndarray) -> Influence:
    """I = w(Â + Â² + …) with w = 1 on the target, the last row. Ends because the graph has no cycles."""
    n = share_RS.shape[0] - 1
    step_R = np.zeros(n + 1, share_RS.dtype)
    step_R[n] = 1.0
    column_S, row_R = np.zeros(share_RS.shape[1]), step_R.astype(np.float64)
    for _ in range(n + 1):
        step_S = step_R @ share_RS
        if not step_S.any():
            break
        column_S += step_S
        step_R = np.append(step_S[:n], 0.0).astype(share_RS.dtype)
        row_R += step_R
    return Influence(column_S, row_R)


def smallest_set(score: np.ndarray, share: float) -> np.ndarray:
    """Boolean mask of the smallest set that reaches `share` of the sum; ties by position."""
    flat = score.ravel()
    kept = np.zeros(flat.shape, dtype=bool)
    total = flat.sum(dtype=np.float64)
    if total > 0:
        order = np.argsort(-flat, kind="stable")
        reached = np.cumsum(flat[order], dtype=np.float64) >= share * total * (1 - 1e-12)
        kept[order[: int(np.argmax(reached)) + 1]] = True
        kept &= flat > 0
    return kept.reshape(score.shape)


def prune(share_RS: np.ndarray, scores: Influence, node_share: float, edge_share: float) -> Pruned:
    """Prune nodes, then edges, then drop what dangles: features need an input and a way to the target.

    Edge score Â_ij · I_i (the target's own influence is its weight, 1). Idempotent on its own result.
    """
    n = share_RS.shape[0] - 1
    columns = np.flatnonzero(smallest_set(scores.column_S, node_share))
    rows = np.append(columns[columns < n], n)
    # Edges are scored between the nodes that are left: of thousands, most are gone by now.
    score_rs = share_RS[np.ix_(rows, columns)] * scores.row_R[rows, None]
    edge_rs = smallest_set(score_rs, edge_share)
    is_row_s = columns < n
    alive_s = np.ones(len(columns), dtype=bool)
    while True:
        now_s = alive_s & edge_rs.any(0)
        now_s[is_row_s] &= np.asarray(edge_rs.any(1))[:-1]
        kept_rs = edge_rs & now_s[None, :] & np.append(now_s[is_row_s], True)[:, None]
        if (now_s == alive_s).all() and (kept_rs == edge_rs).all():
            break
        alive_s, edge_rs = now_s, kept_rs
    column_S = np.zeros(share_RS.shape[1], dtype=bool)
    column_S[columns] = alive_s
    edge_RS = np.zeros(share_RS.shape, dtype=bool)
    edge_RS[np.ix_(rows, columns)] = edge_rs
    return Pruned(column_S, edge_RS)


def replacement_score(column_S: np.ndarray, n_features: int, n_errors: int) -> float:
    """I(tokens) / (I(tokens) + I(errors)): share of the flow that ends in tokens and not in errors."""
    errors = column_S[n_features : n_features + n_errors].sum()
    tokens = column_S[n_features + n_errors :].sum()
    return float(tokens / (tokens + errors)) if tokens + errors > 0 else 0.0


def completeness_score(share_RS: np.ndarray, row_R: np.ndarray, n_features: int, n_errors: int) -> float:
    """Influence-weighted share of each node's input that is not error."""
    error_R = share_RS[:, n_features : n_features + n_errors].sum(1)
    return float(1 - (row_R * error_R).sum() / row_R.sum())
