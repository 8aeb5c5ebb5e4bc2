"""Supernodes: features of a circuit that act as one step, proposed from its edges, edited by people.

Two features of one layer belong together when they read the same and write to the same: the likeness of a
pair is the mean cosine of their signed edges in and of their signed edges out. Only features of one layer
are joined: they do not feed each other, so the joined graph stays without cycles and its edges are sums.
Legend: N features of a layer, M nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from scx_core.circuits.circuit import Circuit, Edge, Node, Supernode
from scx_core.circuits.feature_names import PROMPT_WORD
from scx_core.errors import ScxError

LIKENESS = 0.6  # mean cosine from which features are joined
NAMED = 3  # names of features that make up the name of a proposal


def _unit(rows_NM: np.ndarray) -> np.ndarray:
    length_N = np.linalg.norm(rows_NM, axis=1, keepdims=True)
    return np.divide(rows_NM, length_N, out=np.zeros_like(rows_NM), where=length_N > 0)


def likeness(circuit: Circuit, ids: Sequence[str]) -> np.ndarray:
    """How alike the edges of these nodes are, −1 to 1, [N, N]. Biases are left out: everything reads them."""
    row = {name: i for i, name in enumerate(ids)}
    column = {node.id: j for j, node in enumerate(circuit.nodes)}
    into_NM, out_NM = (np.zeros((len(ids), len(column))) for _ in range(2))
    for edge in circuit.edges:
        if edge.target in row and edge.source != "bias":
            into_NM[row[edge.target], column[edge.source]] = edge.weight
        if edge.source in row:
            out_NM[row[edge.source], column[edge.target]] = edge.weight
    into_NM, out_NM = _unit(into_NM), _unit(out_NM)
    return (into_NM @ into_NM.T + out_NM @ out_NM.T) / 2


def propose(circuit: Circuit, least: float = LIKENESS) -> tuple[Supernode, ...]:
    """Groups of two or more features whose mean likeness is at least `least` (average linkage).

    A group is named after what its features are active at, the strongest first.
    """
    layers: dict[int, list[Node]] = defaultdict(list)
    for node in circuit.nodes:
        if node.kind == "feature" and node.layer is not None:
            layers[node.layer].append(node)
    found = []
    for layer in sorted(layers):
        nodes = layers[layer]
        if len(nodes) < 2:
            continue
        far_NN = np.clip(1 - likeness(circuit, [node.id for node in nodes]), 0.0, 2.0)
        np.fill_diagonal(far_NN, 0.0)
        tree = linkage(squareform(far_NN, checks=False), "average")
        groups: dict[int, list[Node]] = defaultdict(list)
        for node, number in zip(nodes, fcluster(tree, 1 - least, "distance").tolist(), strict=True):
            groups[number].append(node)
        found += [group for group in groups.values() if len(group) > 1]
    found.sort(key=lambda group: -sum(node.influence for node in group))
    return _named(found)


def _named(groups: Sequence[Sequence[Node]]) -> tuple[Supernode, ...]:
    taken: dict[str, int] = defaultdict(int)
    out = []
    for group in groups:
        mass: dict[str, float] = defaultdict(float)
        for node in group:
            mass[node.name or node.gene or PROMPT_WORD] += node.influence
        name = " · ".join(sorted(mass, key=lambda one: (-mass[one], one))[:NAMED])
        taken[name] += 1
        if taken[name] > 1:  # a name is one step, and a step is of one layer
            name = f"{name} ({taken[name]})"
        out.append(Supernode(name, tuple(node.id for node in group)))
    return tuple(out)


def from_names(circuit: Circuit, names: Mapping[str, str]) -> tuple[Supernode, ...]:
    """Supernodes as a person edits them: the name of each feature's step, nothing for a feature of its own.

    Features with one name make one supernode. Raises ScxError for a node that is no feature of the circuit,
    and where a name joins features of different layers.
    """
    layer = {node.id: node.layer for node in circuit.nodes if node.kind == "feature"}
    groups: dict[str, list[str]] = defaultdict(list)
    for node_id, given in names.items():
        name = given.strip()
        if node_id not in layer:
            raise ScxError(f"The circuit has no feature {node_id}.", "Name features of this circuit.")
        if name:
            groups[name].append(node_id)
    for name, members in groups.items():
        layers = sorted({layer[node_id] or 0 for node_id in members})
        if len(layers) > 1:
            raise ScxError(
                f"The step {name!r} joins features of the layers {', '.join(map(str, layers))}.",
                "A step holds features of one layer: those of different layers may feed each other.",
            )
    return tuple(Supernode(name, tuple(members)) for name, members in groups.items())


def collapse(circuit: Circuit) -> Circuit:
    """The circuit with each of its supernodes as one node, for drawing: effects, influences and edges add up.

    The node has the kind `feature`, no number, and the id `s:` and its place; its name is the step's.
    """
    owner: dict[str, str] = {}
    for place, supernode in enumerate(circuit.supernodes):
        owner |= dict.fromkeys(supernode.members, f"s:{place}")
    groups: dict[str, list[Node]] = defaultdict(list)
    for node in circuit.nodes:
        groups[owner.get(node.id, node.id)].append(node)
    nodes = [
        _joined(name, group, circuit) if name != group[0].id else group[0] for name, group in groups.items()
    ]
    edges: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in circuit.edges:
        edges[owner.get(edge.source, edge.source), owner.get(edge.target, edge.target)].append(edge)
    joined = tuple(
        rows[0]
        if len(rows) == 1 and (rows[0].source, rows[0].target) == pair
        else Edge(*pair, sum(row.weight for row in rows), max(row.share for row in rows))
        for pair, rows in edges.items()
    )
    return circuit._replace(nodes=tuple(nodes), edges=joined, supernodes=())


def _joined(name: str, group: Sequence[Node], circuit: Circuit) -> Node:
    first = group[0]
    return Node(
        name,
        "feature",
        first.layer,
        name=circuit.supernodes[int(name.removeprefix("s:"))].name,
        name_kind="step",
        activation=sum(node.activation or 0.0 for node in group),
        influence=sum(node.influence for node in group),
        effect=sum(node.effect for node in group),
        share=max(node.share for node in group),
        n_cells=max(node.n_cells for node in group),
    )
