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


class Merged(NamedTuple):
    """`nodes`: what a merged node is, by id (no position, no numbers). `value_M3`: activation, influence,
    effect, summed over positions. `weight_MM[target, source]` are signed edges, `edge_MM` where there is one.
    `reads`: for a feature, its activation by gene. `genes`: gene → (effect, rank in the sentence)."""

    nodes: dict[str, Node]
    value_M3: np.ndarray
    weight_MM: np.ndarray
    edge_MM: np.ndarray
    reads: dict[str, dict[str, float]]
    genes: dict[str, tuple[float, float]]
    value: float
    scores: dict[str, float]
    max_relative_error: float


def merged_node(node: Node) -> Node:
    """The node without its position; a gene's tokens share one id, so do the tokens of the prompt."""
    if node.kind == "feature":
        return Node(f"f:{node.layer}:{node.feature}", "feature", node.layer, None, node.feature)
    if node.kind == "error":
        return Node(f"e:{node.layer}", "error", node.layer)
    if node.kind == "embedding":
        return Node(f"gene:{node.gene}" if node.gene else "prompt", "embedding", gene=node.gene)
    return Node(node.id, node.kind)


def merge(nodes: Iterable[Node], edges: tuple[np.ndarray, np.ndarray, np.ndarray], **rest) -> Merged:
    """Merge nodes; edges are three arrays: index of the target node, of the source node, weight."""
    kept: dict[str, Node] = {}
    place: list[int] = []
    number: dict[str, int] = {}
    values: list[tuple[float, float, float]] = []
    reads: dict[str, dict[str, float]] = {}
    for node in nodes:
        one = merged_node(node)
        kept.setdefault(one.id, one)
        place.append(number.setdefault(one.id, len(number)))
        values.append((node.activation or 0.0, node.influence, node.effect))
        if node.kind == "feature" and node.gene:
            mass = reads.setdefault(one.id, {})
            mass[node.gene] = mass.get(node.gene, 0.0) + (node.activation or 0.0)
    at = np.array(place, dtype=np.int64)
    value_M3 = np.zeros((len(kept), 3))
    np.add.at(value_M3, at, np.array(values).reshape(-1, 3))
    weight_MM = np.zeros((len(kept), len(kept)))
    edge_MM = np.zeros((len(kept), len(kept)), dtype=bool)
    target, source, weight = edges
    np.add.at(weight_MM, (at[target], at[source]), weight)
    edge_MM[at[target], at[source]] = True
    return Merged(kept, value_M3, weight_MM, edge_MM, reads, **rest)


def merged_circuit(circuit: Circuit) -> Merged:
    """A single-cell circuit, as traced or as read from a file, with its positions merged."""
    index = {node.id: i for i, node in enumerate(circuit.nodes)}
    edges = (
        np.array([index[edge.target] for edge in circuit.edges], dtype=np.int64),
        np.array([index[edge.source] for edge in circuit.edges], dtype=np.int64),
        np.array([edge.weight for edge in circuit.edges]),
    )
    return merge(
        circuit.nodes,
        edges,
        genes={gene.gene: (gene.effect, gene.rank) for gene in circuit.genes},
        value=circuit.target.value,
        scores=circuit.scores,
        max_relative_error=circuit.accounting["max_relative_error"],
    )
