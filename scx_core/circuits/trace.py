"""Trace one cell: freeze, total effects, choose nodes, exact edges, influence, cut, circuit.

The phases, in order:
 1. plan the target (decision token against its competitors) and run the original model once, frozen;
 2. carry the target's read vector through all frozen gates: total effects of genes and features;
 3. choose the features with the largest total effect, up to the budget;
 4. exact direct edges into the chosen features and the target, and their accounting;
 5. influence and scores on this graph, then the cut;
 6. gather nodes and edges that are left, with their genes and tokens.
Legend: T positions, L layers, C chosen features, R rows, S columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.circuits.circuit import Circuit, Edge, Node
from scx_core.circuits.config import TraceConfig
from scx_core.circuits.edges import Chosen, EdgeTable, choose, edge_table
from scx_core.circuits.effects import TotalEffects, span_effects, total_effects
from scx_core.circuits.frozen import FrozenPrompt, freeze
from scx_core.circuits.influence import (
    Cut,
    Influence,
    completeness_score,
    cut,
    influence,
    normalised,
    replacement_score,
)
from scx_core.circuits.replacement import Replacement
from scx_core.circuits.target import TargetPlan, finished_target, is_called, probability_score, target_read
from scx_core.sentences import EncodedCell


class Graph(NamedTuple):
    """A traced prompt before anything is cut.

    `weight_RS` are all signed edges but the bias; `called`: see `is_called`.
    """

    frozen: FrozenPrompt
    plan: TargetPlan
    effects: TotalEffects
    chosen: Chosen
    table: EdgeTable
    weight_RS: np.ndarray
    share_RS: np.ndarray
    scores: Influence
    value: float
    called: bool


def trace_graph(rep: Replacement, cell: EncodedCell, plan: TargetPlan, n_nodes: int) -> Graph:
    """Phases 1 to 5 for one prompt."""
    frozen = freeze(rep, plan.prompt_ids(cell))
    read_d, read_bias, value = target_read(frozen, plan)
    effects = total_effects(frozen, read_d, read_bias)
    chosen = choose(frozen, effects.features, n_nodes)
    table = edge_table(frozen, chosen, read_d, read_bias, value)
    columns = torch.cat([table.feature_RC, table.error_RLT.flatten(1), table.token_RT], 1)
    weight_RS = columns.double().cpu().numpy()
    share_RS = normalised(weight_RS, table.rest_abs_R.double().cpu().numpy())
    called = is_called(frozen, plan)
    return Graph(
        frozen, plan, effects, chosen, table, weight_RS, share_RS, influence(share_RS), value, called
    )


def graph_scores(graph: Graph, gene_effect: float) -> dict[str, float]:
    """Scores of the graph before the cut (method §6), and the accounting of the target in logits."""
    n, errors = len(graph.chosen.layer_C), graph.table.error_RLT[0].numel()
    column_S, row_R = graph.scores
    bias_R = graph.table.bias_R.abs().double().cpu().numpy()
    rest_R = graph.table.rest_abs_R.double().cpu().numpy()
    total_R = np.abs(graph.weight_RS).sum(1) + rest_R + bias_R
    return {
        "value": graph.value,
        "gene_effect": gene_effect,
        "prompt_effect": float(graph.effects.token_T.double().sum()) - gene_effect,
        "error_effect": float(graph.effects.error_LT.double().sum()),
        "bias_effect": graph.effects.bias,
        "replacement": replacement_score(column_S, n, errors),
        "completeness": completeness_score(graph.share_RS, row_R, n, errors),
        "error_share": float(column_S[n : n + errors].sum()),
        "token_share": float(column_S[n + errors :].sum()),
        "unexplored_share": float((row_R * (1 - graph.share_RS.sum(1))).sum()),
        "bias_share": float((row_R * bias_R / np.maximum(total_R, 1e-30)).sum() / row_R.sum()),
        "called": float(graph.called),
    } | probability_score(graph.frozen, graph.plan)


class _Names(NamedTuple):
    """Ids of all columns in order, so that nodes and edges speak the same language."""

    column_S: list[str]
    row_R: list[str]


def _names(graph: Graph) -> _Names:
    chosen, (_, n_layers, length) = graph.chosen, graph.table.error_RLT.shape
    features = [
        f"f:{layer}:{position}:{feature}"
        for layer, position, feature in zip(
            chosen.layer_C.tolist(), chosen.position_C.tolist(), chosen.feature_C.tolist(), strict=True
        )
    ]
    errors = [f"e:{layer}:{t}" for layer in range(n_layers) for t in range(length)]
    return _Names(features + errors + [f"t:{t}" for t in range(length)], [*features, "target"])


def _token_paths(graph: Graph) -> np.ndarray:
    """What each token adds to each chosen feature over all paths through chosen features, [C, T].

    A token that makes up a share of a feature's value makes up that share of what the feature passes on.
    """
    n = len(graph.chosen.layer_C)
    direct_CT = graph.table.token_RT[:n].double().cpu().numpy()
    passed_CC = graph.weight_RS[:n, :n] / graph.table.value_R[:n].double().cpu().numpy()
    return np.linalg.solve(np.eye(n) - passed_CC, direct_CT)


def _top_gene(token_row_T: np.ndarray, gene_T: Sequence[str | None]) -> str | None:
    """The gene whose tokens add most to a feature, None when none adds."""
    sums: dict[str, float] = {}
    for weight, gene in zip(token_row_T, gene_T, strict=True):
        if gene is not None:
            sums[gene] = sums.get(gene, 0.0) + float(weight)
    best = max(sums, key=lambda gene: sums[gene], default=None)
    return best if best is not None and sums[best] > 0 else None


def _nodes(
    graph: Graph, kept: Cut, names: _Names, gene_T: list[str | None], tokens: Sequence[str]
) -> list[Node]:
    """The nodes that the cut kept, in a stable order: features, errors, tokens, bias, target."""
    chosen, table, frozen = graph.chosen, graph.table, graph.frozen
    n, length = len(chosen.layer_C), table.token_RT.shape[1]
    score_S = graph.scores.column_S
    paths_CT = _token_paths(graph)
    out: list[Node] = []
    for s in np.flatnonzero(kept.column_S):
        name, score = names.column_S[s], float(score_S[s])
        if s < n:
            layer, t, i = int(chosen.layer_C[s]), int(chosen.position_C[s]), int(chosen.feature_C[s])
            value = float(frozen.layers[layer].value_N[chosen.index_C[s]])
            effect = float(graph.effects.features[layer][chosen.index_C[s]])
            gene = gene_T[t] or _top_gene(paths_CT[s], gene_T)
            out.append(Node(name, "feature", layer, t, i, gene, tokens[t], value, score, effect))
        elif s < len(score_S) - length:
            layer, t = divmod(int(s) - n, length)
            effect = float(graph.effects.error_LT[layer, t])
            out.append(Node(name, "error", layer, t, None, gene_T[t], tokens[t], None, score, effect))
        else:
            t = int(s) - (len(score_S) - length)
            effect = float(graph.effects.token_T[t])
            out.append(Node(name, "embedding", None, t, None, gene_T[t], tokens[t], None, score, effect))
    out.append(Node("bias", "bias", effect=graph.effects.bias))
    out.append(
        Node(
            "target", "target", position=length - 1, activation=graph.value, influence=1.0, effect=graph.value
        )
    )
    return out


def _edges(graph: Graph, kept: Cut, names: _Names) -> list[Edge]:
    """Edges between kept nodes, and the bias edge of every kept row."""
    table = graph.table
    rows, columns = np.nonzero(kept.edge_RS)
    weights = graph.weight_RS[rows, columns].tolist()
    out = [Edge(names.column_S[s], names.row_R[r], w) for r, s, w in zip(rows, columns, weights, strict=True)]
    alive = np.append(kept.column_S[: len(names.row_R) - 1], True)
    bias = table.bias_R.tolist()
    return out + [Edge("bias", names.row_R[r], bias[r]) for r in np.flatnonzero(alive)]


def finish(graph: Graph, cell: EncodedCell, cfg: TraceConfig, provenance: dict[str, Any]) -> Circuit:
    """Phase 6: cut the graph and gather what is left as a circuit of scope `cell`."""
    lm, ids = graph.frozen.replacement.lm, graph.frozen.ids
    tokens = [lm.text(token) for token in ids]
    gene_T = cell.gene_at() + [None] * (len(ids) - len(cell.ids))
    kept = cut(graph.share_RS, graph.scores, cfg.node_share, cfg.edge_share)
    names = _names(graph)
    genes = span_effects(graph.effects.token_T, cell.spans)
    return Circuit(
        scope="cell",
        target=finished_target(lm, graph.plan, len(ids) - 1, graph.value),
        genes=tuple(genes),
        nodes=tuple(_nodes(graph, kept, names, gene_T, tokens)),
        edges=tuple(_edges(graph, kept, names)),
        scores=graph_scores(graph, sum(gene.effect for gene in genes)),
        accounting={"max_relative_error": graph.table.max_relative_error(), "rows": float(len(names.row_R))},
        provenance=provenance,
        token_ids=tuple(ids),
        tokens=tuple(tokens),
        sentence=tuple(cell.genes),
    )
