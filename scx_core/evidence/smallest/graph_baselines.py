"""What a searched circuit is set against: the influence cut, and plain greedy orders (method §6).

The influence cut of a cell type is made on the mean over cells of every node's influence, with positions
merged as in a consensus: a feature is (layer, number), a token its gene (or the prompt), errors one node a
layer. A node set holds features only, so the cut is the smallest set of features that reaches the share of
the features' cumulative influence (`features`). The published cut of a graph takes nodes of all kinds
together, which leaves fewer features; their set is made as well (`all`). Of one cell, both are made on that
cell's own graph.
Legend: L layers, T positions, F features, X candidate nodes (layer × feature, or layer × position × feature).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.attribution.local_replacement_model import freeze_many
from scx_core.attribution.pruning import smallest_set
from scx_core.attribution.replacement_model import Replacement
from scx_core.attribution.target import TargetPlan, plans_in
from scx_core.circuits.feature_names import BOS
from scx_core.circuits.trace import Graph, begins_with_bos, graph_of
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import EncodedCell


class GraphScores(NamedTuple):
    """Means over cells. Features: influence and signed total effect (logits) of every candidate, [X].
    `others`: influence of tokens and errors. `unexplored`: that of features outside the graphs."""

    influence_X: np.ndarray
    effect_X: np.ndarray
    others: dict[str, float]
    unexplored: float


def graph_scores_of(
    rep: Replacement,
    plan: TargetPlan,
    cells: Sequence[EncodedCell],
    shape: tuple[int, ...],
    n_nodes: int,
    progress: Progress = silent,
) -> GraphScores:
    """Trace the cells and take means. `shape` is (L, F), or (L, T, F) for one cell by position."""
    influence_X, effect_X = np.zeros(shape), np.zeros(shape)
    others: dict[str, float] = {}
    unexplored, n = 0.0, len(cells)
    plans = plans_in(rep.lm, plan, cells)
    frozen = freeze_many(rep, [plan.prompt_ids(cell) for cell in cells], plan.n_logits)
    for done, (cell, prompt, in_cell) in enumerate(zip(cells, frozen, plans, strict=True)):
        graph = graph_of(prompt, in_cell, n_nodes)
        chosen, score_S = graph.chosen, graph.scores.column_S
        at = (
            chosen.layer_C.numpy(force=True),
            chosen.position_C.numpy(force=True),
            chosen.feature_C.numpy(force=True),
        )
        np.add.at(influence_X, _candidates(at, shape), score_S[: len(at[0])] / n)
        for name, score in _others(graph, cell, by_position=len(shape) == 3).items():
            others[name] = others.get(name, 0.0) + score / n
        for layer, effect_N in enumerate(graph.effects.features):
            place = prompt.layers[layer]
            at = (
                np.full(len(effect_N), layer),
                place.position_N.numpy(force=True),
                place.feature_N.numpy(force=True),
            )
            np.add.at(effect_X, _candidates(at, shape), effect_N.numpy(force=True) / n)
        unexplored += float((graph.scores.row_R * (1 - graph.share_RS.sum(1))).sum()) / n
        progress(done + 1, n, "influence cut")
    return GraphScores(influence_X.ravel(), effect_X.ravel(), others, unexplored)


def _candidates(at: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """(layer, position, feature) as an index into arrays of this shape."""
    return at if len(shape) == 3 else (at[0], at[2])


def _others(graph: Graph, cell: EncodedCell, by_position: bool) -> dict[str, float]:
    """Influence of the errors (by layer) and the tokens (by gene), or of each one apart."""
    n_positions, n_features = graph.frozen.n_positions, len(graph.chosen.layer_C)
    score_S = graph.scores.column_S[n_features:]
    gene_T = cell.gene_at() + [None] * (n_positions - len(cell.ids))
    begins = begins_with_bos(graph.frozen)
    sums: dict[str, float] = {}
    for s, score in enumerate(score_S.tolist()):
        layer, t = divmod(s, n_positions)
        error = layer < len(graph.frozen.layers)
        word = BOS if t == 0 and begins else "prompt"
        name = f"e:{layer}" if error else f"gene:{gene_T[t]}" if gene_T[t] else word
        name = f"{layer}:{t}" if by_position else name
        sums[name] = sums.get(name, 0.0) + score
    return sums


def influence_cut(scores: GraphScores, share: float, kinds: str = "features") -> np.ndarray:
    """The candidates in the cut, ascending; `kinds` is `features` or `all`."""
    others = list(scores.others.values()) if kinds == "all" else []
    chosen = smallest_set(np.append(scores.influence_X, others), share)
    return np.flatnonzero(chosen[: len(scores.influence_X)])


def greedy_orders(scores: GraphScores) -> dict[str, np.ndarray]:
    """Candidates by a score of the graph alone, best first, without those that score nothing."""
    by = {"influence": scores.influence_X, "effect": np.abs(scores.effect_X)}
    return {
        name: np.argsort(-score_X, kind="stable")[: int((score_X > 0).sum())] for name, score_X in by.items()
    }
