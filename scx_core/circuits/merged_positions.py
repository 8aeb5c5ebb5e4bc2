"""One cell's circuit with its positions merged: the form in which circuits of many cells can be compared.

A feature is (layer, number), a token becomes its gene (or the prompt), errors are one node a layer; edges
between the same merged nodes are added up.
Legend: M merged nodes, R rows and S columns of a traced graph (see influence.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from scx_core.circuits.circuit import Circuit, Node
from scx_core.circuits.feature_names import ANSWER_POSITION, BOS, ByPlace


class Merged(NamedTuple):
    """`nodes`: what a merged node is, by id (no position, no numbers). `value_M3`: activation, influence,
    effect, summed over positions. `weight_MM[target, source]` are signed edges, `edge_MM` where there is one.
    `active`: each feature's activation by place, at every token of the prompt; `stands`: the part of it that
    is in the circuit; `added`: what the tokens of each place add to that over all paths. `genes`: gene →
    (effect, rank in the sentence). `rival_shares`: as in `Target`."""

    nodes: dict[str, Node]
    value_M3: np.ndarray
    weight_MM: np.ndarray
    edge_MM: np.ndarray
    active: ByPlace
    stands: ByPlace
    added: ByPlace
    genes: dict[str, tuple[float, float]]
    value: float
    scores: dict[str, float]
    max_relative_error: float
    rival_shares: tuple[float, ...] = ()


def merged_node(node: Node) -> Node:
    """The node without its position; a gene's tokens share one id, so do the tokens of the prompt.
    The token of beginning is no word of the prompt: it keeps a node of its own."""
    if node.kind == "feature":
        return Node(f"f:{node.layer}:{node.feature}", "feature", node.layer, None, node.feature)
    if node.kind == "error":
        return Node(f"e:{node.layer}", "error", node.layer)
    if node.kind == "embedding" and node.name_kind == BOS:
        return Node(BOS, "embedding", name=node.name, name_kind=BOS)
    if node.kind == "embedding":
        return Node(f"gene:{node.gene}" if node.gene else "prompt", "embedding", gene=node.gene)
    return Node(node.id, node.kind)


def merge(nodes: Iterable[Node], edges: tuple[np.ndarray, np.ndarray, np.ndarray], **rest) -> Merged:
    """Merge nodes; edges are three arrays: index of the target node, of the source node, weight."""
    kept: dict[str, Node] = {}
    place: list[int] = []
    number: dict[str, int] = {}
    values: list[tuple[float, float, float]] = []
    for node in nodes:
        one = merged_node(node)
        kept.setdefault(one.id, one)
        place.append(number.setdefault(one.id, len(number)))
        values.append((node.activation or 0.0, node.influence, node.effect))
    at = np.array(place, dtype=np.int64)
    value_M3 = np.zeros((len(kept), 3))
    np.add.at(value_M3, at, np.array(values).reshape(-1, 3))
    weight_MM = np.zeros((len(kept), len(kept)))
    edge_MM = np.zeros((len(kept), len(kept)), dtype=bool)
    target, source, weight = edges
    np.add.at(weight_MM, (at[target], at[source]), weight)
    edge_MM[at[target], at[source]] = True
    return Merged(kept, value_M3, weight_MM, edge_MM, **rest)


def merged_circuit(circuit: Circuit) -> Merged:
    """A single-cell circuit, as traced or as read from a file, with its positions merged."""
    index = {node.id: i for i, node in enumerate(circuit.nodes)}
    edges = (
        np.array([index[edge.target] for edge in circuit.edges], dtype=np.int64),
        np.array([index[edge.source] for edge in circuit.edges], dtype=np.int64),
        np.array([edge.weight for edge in circuit.edges]),
    )
    features = [node for node in circuit.nodes if node.kind == "feature"]
    stands = _by_place(features, [(_place(node), node.activation or 0.0) for node in features])
    return merge(
        circuit.nodes,
        edges,
        active=stands,
        stands=stands,
        added=_by_place(features, [(node.driven_by or "", abs(node.activation or 0.0)) for node in features]),
        genes={gene.gene: (gene.effect, gene.rank) for gene in circuit.genes},
        value=circuit.target.value,
        scores=circuit.scores,
        max_relative_error=circuit.accounting["max_relative_error"],
        rival_shares=circuit.target.rival_shares,
    )


def _place(node: Node) -> str | None:
    """The gene that a feature stands at; "" for the prompt's words, None for the answer's place."""
    if node.gene is not None:
        return node.gene
    return None if (node.active_at or "").startswith(ANSWER_POSITION) else ""


def _by_place(features: list[Node], held: list[tuple[str | None, float]]) -> ByPlace:
    """What the nodes of a file hold: one place each. Traced here, a feature's whole prompt is known."""
    rows = list(dict.fromkeys(merged_node(node).id for node in features))
    genes = sorted({place for place, _ in held if place})
    sum_RP = np.zeros((len(rows), len(genes) + 2))
    for node, (place, amount) in zip(features, held, strict=True):
        column = len(genes) + 1 if place is None else genes.index(place) if place else len(genes)
        sum_RP[rows.index(merged_node(node).id), column] += amount
    return ByPlace(tuple(rows), tuple(genes), sum_RP)
