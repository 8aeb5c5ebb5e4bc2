"""Trace one cell: freeze, total effects, choose nodes, exact edges, influence, pruning, circuit.

The phases, in order:
 1. plan the target (decision token against its competitors) and run the original model once, frozen;
 2. carry the target's gradient through all frozen gates: total effects of genes and features;
 3. choose the features with the most influence (or the largest total effect), up to the budget;
 4. exact direct edges into the chosen features and the target, and their accounting;
 5. influence and scores on this graph, then pruning;
 6. gather nodes and edges that are left, with their genes and tokens.
Legend: T positions, L layers, C chosen features, R rows, S columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.answer_target import AnswerForm
from scx_core.attribution.backward import TotalEffects, total_effects
from scx_core.attribution.edges import EdgeTable, edge_table
from scx_core.attribution.local_replacement_model import FrozenPrompt
from scx_core.attribution.node_selection import ROWS_OF_ALL, SelectedFeatures, by_influence, largest
from scx_core.attribution.pruning import (
    Influence,
    Pruned,
    completeness_score,
    influence,
    normalised,
    prune,
    replacement_score,
)
from scx_core.attribution.replacement_model import Replacement
from scx_core.attribution.residual_stream import GradientRows, Sources
from scx_core.attribution.target import (
    TargetPlan,
    answer_form,
    finished_target,
    frozen_for,
    probability_score,
    target_row,
)
from scx_core.circuits.circuit import NOTHING, Circuit, Edge, GeneEffect, Node
from scx_core.circuits.consensus import Merged, merge, merged_node, patterns_said
from scx_core.circuits.feature_names import (
    ANSWER,
    ANSWER_POSITION,
    BOS,
    BOS_NAME,
    FROM_CIRCUIT,
    GENE,
    PROMPT,
    PROMPT_WORD,
    ByPlace,
    Where,
    drivers,
    where_in_cell,
    with_where,
)
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.options import option
from scx_core.sentences import EncodedCell, GeneSpan

LESS = "Ask for fewer nodes (--nodes), take fewer genes a sentence (--n-genes), or trace on the processor."


@dataclass(frozen=True)
class TraceConfig:
    """How one cell is traced."""

    target: str = option(
        "auto",
        "Explain the log-odds of the whole answer against its competitors (answer), its decision token "
        "against theirs (contrast), that token's logit or log-probability alone, or the logit of any one "
        "token at the same place; auto: contrast where one token parts the answer from all competitors and "
        "is no other label's, else answer",
        choices=("auto", "answer", "contrast", "logit", "logprob", "token"),
    )
    token: str = option("", "With the target token: its text, or its number in the vocabulary")
    nodes: int = option(384, "Features that may become nodes, chosen before pruning", minimum=1)
    choice: str = option(
        "influence",
        "They are those with the most influence on the target, or with the largest total effect",
        choices=("influence", "effect"),
    )
    node_share: float = option(
        0.8, "Keep the fewest nodes with this share of the influence", minimum=0.0, maximum=1.0
    )
    edge_share: float = option(
        0.98, "Keep the fewest edges with this share of their score", minimum=0.0, maximum=1.0
    )


class Graph(NamedTuple):
    """A traced prompt before pruning.

    `weight_RS` are all signed edges but the bias; `form` is that of a whole answer. `called`: whether the
    model gives this prompt the explained label, the whole answer of all its answers (None: not asked).
    """

    frozen: FrozenPrompt
    plan: TargetPlan
    target: GradientRows
    effects: TotalEffects
    chosen: SelectedFeatures
    table: EdgeTable
    weight_RS: np.ndarray
    share_RS: np.ndarray
    scores: Influence
    value: float
    form: AnswerForm | None
    called: bool | None


Choice = Callable[[FrozenPrompt, TotalEffects], SelectedFeatures]


def shares(table: EdgeTable) -> tuple[np.ndarray, np.ndarray]:
    """All signed edges but the bias, [R, S], and their shares of the rows' input."""
    columns = torch.cat([table.feature_RC, table.error_RLT.flatten(1), table.token_RT], 1)
    weight_RS = columns.cpu().numpy()
    return weight_RS, normalised(weight_RS, table.rest_abs_R.double().cpu().numpy())


def trace_graph(
    rep: Replacement,
    cell: EncodedCell,
    plan: TargetPlan,
    n_nodes: int,
    choice: str = "influence",
    called: bool | None = None,
) -> Graph:
    """Phases 1 to 5 for one prompt."""
    return graph_of(frozen_for(rep, cell, plan), plan, n_nodes, choice, called)


def graph_of(
    frozen: FrozenPrompt,
    plan: TargetPlan,
    n_nodes: int,
    choice: str | Choice = "influence",
    called: bool | None = None,
) -> Graph:
    """Phases 2 to 5 for a frozen prompt. `choice` is `influence`, `effect`, or gives the nodes itself."""
    form = answer_form(frozen, plan)
    target, target_bias, value = target_row(frozen, plan, form)
    effects = total_effects(frozen, target, target_bias)
    micro = MicroBatch(remedy=LESS, units="rows of edges")

    def attempt(rows: int) -> tuple[SelectedFeatures, EdgeTable]:
        sources = Sources(frozen, None if rows == ROWS_OF_ALL else rows)
        if not isinstance(choice, str):
            chosen = choice(frozen, effects)
        elif choice == "influence":
            chosen = by_influence(sources, effects.features, target, n_nodes)
        else:
            chosen = largest(frozen, effects.features, n_nodes)
        return chosen, edge_table(sources, chosen, target, target_bias, value)

    chosen, table = micro.run(attempt, ROWS_OF_ALL)
    frozen.release_patterns()
    weight_RS, share_RS = shares(table)
    scores = influence(share_RS)
    parts = (frozen, plan, target, effects, chosen, table, weight_RS, share_RS, scores, value)
    return Graph(*parts, form, called)


def graph_scores(graph: Graph, gene_effect: float, n_prompt: int) -> dict[str, float]:
    """Scores of the graph before pruning (method §6), and the accounting of the target in its unit.
    `n_prompt`: tokens of the prompt; those behind it are the answer's own, given before its decision."""
    n, errors = len(graph.chosen.layer_C), graph.table.error_RLT[0].numel()
    column_S, row_R = graph.scores
    bias_R = graph.table.bias_R.abs().double().cpu().numpy()
    rest_R = graph.table.rest_abs_R.double().cpu().numpy()
    total_R = np.abs(graph.weight_RS).sum(1) + rest_R + bias_R
    found = {
        "value": graph.value,
        "gene_effect": gene_effect,
        "prompt_effect": float(graph.effects.token_T.double().sum()) - gene_effect,
        "answer_effect": float(graph.effects.token_T[n_prompt:].double().sum()),
        "error_effect": float(graph.effects.error_LT.double().sum()),
        "bias_effect": graph.effects.bias,
        "replacement": replacement_score(column_S, n, errors),
        "completeness": completeness_score(graph.share_RS, row_R, n, errors),
        "error_share": float(column_S[n : n + errors].sum()),
        "token_share": float(column_S[n + errors :].sum()),
        "unexplored_share": float((row_R * (1 - graph.share_RS.sum(1))).sum()),
        "bias_share": float((row_R * bias_R / np.maximum(total_R, 1e-30)).sum() / row_R.sum()),
    }
    if graph.plan.kind != "feature":
        found["faint"] = float(min(abs(graph.value), abs(gene_effect)) < NOTHING)
    if graph.called is not None:
        found["called"] = float(graph.called)
    return found | probability_score(graph.frozen, graph.plan, graph.form)


class _NodeIds(NamedTuple):
    """Ids of all columns in order, so that nodes and edges speak the same language."""

    column_S: list[str]
    row_R: list[str]


def _node_ids(graph: Graph) -> _NodeIds:
    chosen, (_, n_layers, length) = graph.chosen, graph.table.error_RLT.shape
    features = [
        f"f:{layer}:{position}:{feature}"
        for layer, position, feature in zip(
            chosen.layer_C.tolist(), chosen.position_C.tolist(), chosen.feature_C.tolist(), strict=True
        )
    ]
    errors = [f"e:{layer}:{t}" for layer in range(n_layers) for t in range(length)]
    return _NodeIds(features + errors + [f"t:{t}" for t in range(length)], [*features, "target"])


def token_paths(graph: Graph, feature_C: np.ndarray) -> np.ndarray:
    """What each token adds to each of these chosen features over all paths through them, [C, T].

    A token that makes up a share of a feature's value makes up that share of what the feature passes on.
    """
    direct_CT = graph.table.token_RT.cpu().numpy()[feature_C].astype(np.float64)
    value_C = graph.table.value_R.double().cpu().numpy()[feature_C]
    passed_CC = graph.weight_RS[np.ix_(feature_C, feature_C)] / value_C
    return np.linalg.solve(np.eye(len(feature_C)) - passed_CC, direct_CT)


def places(graph: Graph, cell: EncodedCell) -> tuple[np.ndarray, list[str]]:
    """The place of every token, [T], and the genes that places 0, 1, … are; two more are the prompt's words
    and the answer's place: the last token of the prompt, where the answer is read, and answer tokens behind
    it."""
    genes = list(dict.fromkeys(cell.genes))
    number = {gene: g for g, gene in enumerate(genes)}
    place_T = np.full(len(graph.frozen.ids), len(genes))
    place_T[len(cell.ids) - 1 :] = len(genes) + 1
    for t, gene in enumerate(cell.gene_at()):
        if gene is not None:
            place_T[t] = number[gene]
    return place_T, genes


def activity(
    frozen: FrozenPrompt, layer_C: np.ndarray, feature_C: np.ndarray, place_T: np.ndarray, n_places: int
) -> np.ndarray:
    """The activation of features by place over the whole prompt but its first token, [C, P]."""
    sum_CP = np.zeros((len(layer_C), n_places))
    for layer in np.unique(layer_C).tolist():
        at = frozen.layers[layer]
        position_N, feature_N = at.position_N.cpu().numpy(), at.feature_N.cpu().numpy()
        value_N = at.value_N.double().cpu().numpy()
        wanted, back = np.unique(feature_C[layer_C == layer], return_inverse=True)
        here = np.isin(feature_N, wanted) & (position_N > 0)
        sum_UP = np.zeros((len(wanted), n_places))
        row = np.searchsorted(wanted, feature_N[here])
        np.add.at(sum_UP, (row, place_T[position_N[here]]), value_N[here])
        sum_CP[layer_C == layer] = sum_UP[back]
    return sum_CP


class _FeatureNodes(NamedTuple):
    """The chosen features as plain lists: layer, position, number, activation, total effect, [C] each."""

    layer: list[int]
    position: list[int]
    feature: list[int]
    activation: list[float]
    effect: list[float]


def _feature_nodes(graph: Graph) -> _FeatureNodes:
    chosen, layers = graph.chosen, range(len(graph.frozen.layers))
    index = [chosen.index_C[chosen.layer_C == layer] for layer in layers]
    activation = torch.cat([graph.frozen.layers[layer].value_N[index[layer]] for layer in layers])
    effect = torch.cat([graph.effects.features[layer][index[layer]] for layer in layers])
    parts = (chosen.layer_C, chosen.position_C, chosen.feature_C, activation, effect)
    return _FeatureNodes(*(part.tolist() for part in parts))


class _Meaning(NamedTuple):
    """What kept features are active at and what adds to them: their numbers among the chosen, [C], activation
    and additions by place, [C, P] each, and the places (see `places`)."""

    chosen_C: np.ndarray
    active_CP: np.ndarray
    added_CP: np.ndarray
    place_T: np.ndarray
    genes: list[str]


def _meaning(graph: Graph, kept: Pruned, cell: EncodedCell) -> _Meaning:
    place_T, genes = places(graph, cell)
    n_places = len(genes) + 2
    chosen_C = np.flatnonzero(kept.column_S[: len(graph.chosen.layer_C)])
    layer_C, feature_C = (
        part.cpu().numpy()[chosen_C] for part in (graph.chosen.layer_C, graph.chosen.feature_C)
    )
    active_CP = activity(graph.frozen, layer_C, feature_C, place_T, n_places)
    # amounts of tokens added up by place, [C, P]
    amount_CT = token_paths(graph, chosen_C)
    sum_PC = np.zeros((n_places, len(amount_CT)))
    np.add.at(sum_PC, place_T, amount_CT.T)
    added_CP = sum_PC.T
    return _Meaning(chosen_C, active_CP, added_CP, place_T, genes)


def _named(nodes: list[Node], found: _Meaning) -> list[Node]:
    """One cell's nodes with what their features are active at, and what drives them."""
    driver_C = drivers(found.added_CP, found.genes)
    total_C = np.maximum(found.active_CP, 0.0).sum(1)
    out = list(nodes)  # the features come first, in the order of the chosen
    for c, (node, driver) in enumerate(zip(nodes, driver_C, strict=False)):
        place = int(found.place_T[node.position or 0])
        share = float(max(0.0, found.active_CP[c, place]) / total_C[c]) if total_C[c] > 0 else 0.0
        text = [*found.genes, PROMPT_WORD, ANSWER_POSITION][place]
        kind = GENE if node.gene is not None else ANSWER if text == ANSWER_POSITION else PROMPT
        where = where_in_cell(Where(text, kind, share, node.gene), node.gene, node.token)
        out[c] = with_where(node, where, driver)
    return out


def _nodes(
    graph: Graph, kept: Pruned, names: _NodeIds, gene_T: list[str | None], tokens: Sequence[str]
) -> list[Node]:
    """The nodes that pruning kept, in a stable order: features, errors, tokens, bias, target."""
    about, (_, n_layers, length) = _feature_nodes(graph), graph.table.error_RLT.shape
    n, score_S = len(about.layer), graph.scores.column_S
    error_LT, token_T = graph.effects.error_LT.tolist(), graph.effects.token_T.tolist()
    out: list[Node] = []
    for s in np.flatnonzero(kept.column_S).tolist():
        name, score = names.column_S[s], float(score_S[s])
        if s < n:
            t = about.position[s]
            layer, feature = about.layer[s], about.feature[s]
            numbers = (about.activation[s], score, about.effect[s])
            out.append(Node(name, "feature", layer, t, feature, gene_T[t], tokens[t], *numbers))
        elif s < n + n_layers * length:
            layer, t = divmod(s - n, length)
            effect = error_LT[layer][t]
            out.append(Node(name, "error", layer, t, None, gene_T[t], tokens[t], None, score, effect))
        else:
            t = s - n - n_layers * length
            node = Node(name, "embedding", None, t, None, gene_T[t], tokens[t], None, score, token_T[t])
            out.append(_as_bos(node, graph.frozen) if t == 0 and begins_with_bos(graph.frozen) else node)
    out.append(Node("bias", "bias", effect=graph.effects.bias))
    value, at = graph.value, int(graph.target.position_R[-1])
    out.append(Node("target", "target", position=at, activation=value, influence=1.0, effect=value))
    return out


def begins_with_bos(frozen: FrozenPrompt) -> bool:
    """Whether position 0 is the tokenizer's token of beginning, and no text (Gemma; not Pythia)."""
    bos = frozen.replacement.lm.bos_id
    return bos is not None and frozen.ids[0] == bos


def _as_bos(node: Node, frozen: FrozenPrompt) -> Node:
    """The node of the token of beginning, named as what it is."""
    return node._replace(name=f"{BOS_NAME} {frozen.replacement.lm.text(frozen.ids[0])}", name_kind=BOS)


class _EdgeArrays(NamedTuple):
    """Edges between the nodes of `_nodes`: index of the target node, of the source node, weight."""

    target: np.ndarray
    source: np.ndarray
    weight: np.ndarray


def _edges(graph: Graph, kept: Pruned) -> _EdgeArrays:
    """Edges between kept nodes, and the bias edge of every kept row."""
    n = len(graph.chosen.layer_C)
    place_S = np.cumsum(kept.column_S) - 1
    bias_node = int(kept.column_S.sum())
    place_R = np.append(place_S[:n], bias_node + 1)
    rows, columns = np.nonzero(kept.edge_RS)
    alive = np.flatnonzero(np.append(kept.column_S[:n], True))
    bias_R = graph.table.bias_R.cpu().numpy()
    return _EdgeArrays(
        np.append(place_R[rows], place_R[alive]),
        np.append(place_S[columns], np.full(len(alive), bias_node)),
        np.append(graph.weight_RS[rows, columns], bias_R[alive]),
    )


def merged_graph(graph: Graph, cell: EncodedCell, cfg: TraceConfig) -> Merged:
    """The pruned graph with its positions merged, for a consensus: `finish` less what one cell alone has."""
    kept, gene_T = prune(graph.share_RS, graph.scores, cfg.node_share, cfg.edge_share), _genes(graph, cell)
    nodes = _nodes(graph, kept, _node_ids(graph), gene_T, [""] * len(gene_T))
    genes = span_effects(graph.effects.token_T, cell.spans)
    active, stands, added = _by_feature(nodes, _meaning(graph, kept, cell))
    return merge(
        nodes,
        _edges(graph, kept),
        active=active,
        stands=stands,
        added=added,
        genes={gene.gene: (gene.effect, gene.rank) for gene in genes},
        value=graph.value,
        scores=graph_scores(graph, sum(gene.effect for gene in genes), len(cell.ids)),
        max_relative_error=graph.table.max_relative_error(),
        rival_shares=graph.form.share_K if graph.form else (),
        patterns=graph.frozen.patterns,
    )


def _by_feature(nodes: list[Node], found: _Meaning) -> tuple[ByPlace, ByPlace, ByPlace]:
    """By place, of each feature whatever its position: activation, its part in the circuit, additions."""
    kept = nodes[: len(found.chosen_C)]
    ids = [merged_node(node).id for node in kept]
    rows, first_R, of_C = np.unique(ids, return_index=True, return_inverse=True)
    stands_RP, added_RP = np.zeros((2, len(rows), found.added_CP.shape[1]))
    np.add.at(added_RP, of_C, found.added_CP)
    place_C = found.place_T[[node.position or 0 for node in kept]] if kept else np.zeros(0, dtype=np.int64)
    np.add.at(stands_RP, (of_C, place_C), [node.activation or 0.0 for node in kept])
    parts = (found.active_CP[first_R], stands_RP, added_RP)
    active, stands, added = (ByPlace(tuple(map(str, rows)), tuple(found.genes), part) for part in parts)
    return active, stands, added


def _genes(graph: Graph, cell: EncodedCell) -> list[str | None]:
    """The gene of every token, [T]; answer tokens that were forced have none."""
    return cell.gene_at() + [None] * (len(graph.frozen.ids) - len(cell.ids))


def span_effects(token_T: torch.Tensor, spans: Sequence[GeneSpan]) -> list[GeneEffect]:
    """A gene's effect: the sum over the tokens in its character span (method §8)."""
    tokens = token_T.double().tolist()
    return [GeneEffect(span.gene, math.fsum(tokens[span.start : span.end]), span.rank) for span in spans]


def finish(graph: Graph, cell: EncodedCell, cfg: TraceConfig, provenance: dict[str, Any]) -> Circuit:
    """Phase 6: prune the graph and gather what is left as a circuit of scope `cell`."""
    lm, ids = graph.frozen.replacement.lm, graph.frozen.ids
    tokens = [lm.text(token) for token in ids]
    kept = prune(graph.share_RS, graph.scores, cfg.node_share, cfg.edge_share)
    names = _node_ids(graph)
    genes = span_effects(graph.effects.token_T, cell.spans)
    nodes = _named(_nodes(graph, kept, names, _genes(graph, cell), tokens), _meaning(graph, kept, cell))
    edges = zip(*(part.tolist() for part in _edges(graph, kept)), strict=True)
    return Circuit(
        scope="cell",
        target=finished_target(lm, graph.plan, int(graph.target.position_R[-1]), graph.value, graph.form),
        genes=tuple(genes),
        nodes=tuple(nodes),
        edges=tuple(Edge(nodes[s].id, nodes[t].id, weight) for t, s, weight in edges),
        scores=graph_scores(graph, sum(gene.effect for gene in genes), len(cell.ids)),
        accounting={"max_relative_error": graph.table.max_relative_error(), "rows": float(len(names.row_R))},
        provenance=provenance | {"names": FROM_CIRCUIT} | patterns_said([graph.frozen.patterns]),
        token_ids=tuple(ids),
        tokens=tuple(tokens),
        sentence=tuple(cell.genes),
    )
