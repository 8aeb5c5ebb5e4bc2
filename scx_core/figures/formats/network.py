"""A circuit as a networkx graph, and as GraphML for Cytoscape and Gephi: the whole of it, nothing merged."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import networkx as nx

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node
from scx_core.errors import ScxError
from scx_core.figures import captions
from scx_core.figures.drawing.drawing import Drawing
from scx_core.figures.drawing.select import merge_nodes


def to_networkx(circuit: Circuit) -> nx.DiGraph:
    """One node a node and one edge an edge with all their attributes; what is None is left out.

    `label` is the name for people, `sign` says positive or negative, `strength` is |weight|; `direction`
    (where q is known) is what may be said of it, such as "raises" or "not told from 0". Raises ScxError where
    an edge names a node that is not there.
    """
    graph = nx.DiGraph(
        title=captions.title(circuit),
        scope=circuit.scope,
        n_cells=int(circuit.n_cells),
        target=circuit.target.label,
        against=", ".join(circuit.target.against),
        provenance=json.dumps(circuit.provenance, sort_keys=True, ensure_ascii=False, default=str),
        **{f"score_{name}": float(value) for name, value in circuit.scores.items() if _known(value)},
    )
    effects = {row.gene: row for row in circuit.genes}
    for node in circuit.nodes:
        row = effects.get(node.gene or "") if node.kind == "embedding" else None
        said = _direction(circuit, row or node, row.effect if row else node.effect)
        graph.add_node(node.id, label=_label(node, circuit), **_attributes(node, skip={"id"}), **said)
    for edge in circuit.edges:
        for end in (edge.source, edge.target):
            if end not in graph:
                raise ScxError(
                    f"An edge of the circuit names the node {end!r}, which it does not hold.",
                    "Trace the circuit again.",
                )
        graph.add_edge(
            edge.source,
            edge.target,
            **_attributes(edge, skip={"source", "target"}),
            strength=abs(float(edge.weight)),
            sign="positive" if edge.weight >= 0 else "negative",
            **_direction(circuit, edge, edge.weight),
        )
    return graph


def _direction(circuit: Circuit, tested: GeneEffect | Node | Edge, effect: float) -> dict[str, str]:
    """What may be said of an effect, as tables and hovers say it; nothing where it was not tested."""
    return (
        {} if tested.q is None or not effect else {"direction": captions.direction(circuit, effect, tested.q)}
    )


def to_graphml(circuit: Circuit, drawing: Drawing | None = None) -> bytes:
    """GraphML with typed attributes; `name` is the node's id, `feature_name` what a feature is called.
    `drawing`: then each node that it shows carries the id and the name of its box (`box`, `drawn_name`), and
    `step` is the step that it is part of.

    Characters that XML cannot hold are written as "?".
    """
    graph = to_networkx(circuit)
    clean = nx.DiGraph(**_clean(graph.graph))
    boxes = _drawn_names(circuit, drawing) if drawing is not None else {}
    steps = {member: step.name for step in circuit.supernodes for member in step.members}
    ids = {node: f"n{index}" for index, node in enumerate(graph)}
    for node, data in graph.nodes(data=True):
        called = {"feature_name": data["name"]} if "name" in data else {}
        clean.add_node(ids[node], **_clean(data | called | {"name": str(node)} | boxes.get(node, {})))
        if node in steps:
            clean.nodes[ids[node]]["step"] = _xml(steps[node])
    clean.add_edges_from((ids[a], ids[b], _clean(data)) for a, b, data in graph.edges(data=True))
    buffer = io.BytesIO()
    nx.write_graphml_xml(clean, buffer, prettyprint=True)
    return buffer.getvalue()


def _drawn_names(circuit: Circuit, drawing: Drawing) -> dict[str, dict[str, str]]:
    """By node: the id and the words of the box that stands for it in the drawing."""
    labels = {box.id: box.label for box in drawing.nodes if box.label}
    _, owner = merge_nodes(circuit.nodes)
    members = {step.members[0]: step for step in circuit.supernodes}
    found = {node: box for node, box in owner.items() if box in labels}
    for step in members.values():
        same = [box.id for box in drawing.nodes if box.label == step.name]
        found |= dict.fromkeys(step.members, same[0]) if same else {}
    return {node: {"box": box, "drawn_name": labels[box]} for node, box in found.items()}


def _label(node: Node, circuit: Circuit) -> str:
    if node.kind == "feature":
        title, number = captions.feature_title(node), captions.feature_name(node)
        return " · ".join(
            part for part in (title, captions.stands_here(node), captions.driven_by(node), number) if part
        )
    if node.kind == "target":
        return captions.answer(circuit)
    return node.gene or node.name or node.token or node.kind


def _attributes(row: Node | Edge, skip: set[str]) -> dict[str, Any]:
    """Plain Python values; None and what is not a finite number are left out."""
    values = {
        key: getattr(value, "item", lambda value=value: value)() for key, value in row._asdict().items()
    }
    return {key: value for key, value in values.items() if key not in skip and _known(value)}


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _clean(data: dict[str, Any]) -> dict[str, Any]:
    return {key: _xml(value) if isinstance(value, str) else value for key, value in data.items()}


def _xml(text: str) -> str:
    """XML 1.0 knows tab, newline and carriage return, and no other control character or half surrogate."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "?"
        for c in text
    )
