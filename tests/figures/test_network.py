"""GraphML that other programs can read: typed, complete, without None."""

import io
import json
import xml.etree.ElementTree as ET

import networkx as nx
import pytest

from scx_core.circuits.circuit import Edge, Node
from scx_core.errors import ScxError
from scx_core.figures import to_graphml, to_networkx
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit


@pytest.mark.parametrize("make", [cell_circuit, consensus_circuit, hostile_circuit])
def test_graphml_gives_back_every_node_and_edge_with_its_type(make):
    circuit = make()
    graph = nx.read_graphml(io.BytesIO(to_graphml(circuit)))
    assert graph.number_of_nodes() == len(circuit.nodes)
    assert graph.number_of_edges() == len(circuit.edges)
    by_name = {data["name"]: (node, data) for node, data in graph.nodes(data=True)}
    for node in circuit.nodes:
        data = by_name[node.id][1]
        assert data["influence"] == pytest.approx(node.influence)
        assert data.get("layer") == node.layer
        assert isinstance(data["n_cells"], int)
        assert all(value is not None for value in data.values())
    edge = circuit.edges[0]
    found = graph.edges[by_name[edge.source][0], by_name[edge.target][0]]
    assert found["weight"] == pytest.approx(edge.weight)
    assert found["sign"] == ("positive" if edge.weight >= 0 else "negative")


def test_graphml_names_its_attributes_for_people():
    keys = ET.fromstring(to_graphml(cell_circuit())).iter("{http://graphml.graphdrawing.org/xmlns}key")
    keys = list(keys)
    types = {key.get("attr.name"): key.get("attr.type") for key in keys}
    assert len({key.get("id") for key in keys}) == len(keys)
    assert types["weight"] == "double"
    assert types["label"] == "string"
    assert types["layer"] in ("int", "long")


def test_networkx_graph_holds_what_the_circuit_holds():
    circuit = consensus_circuit()
    graph = to_networkx(circuit)
    assert graph.graph["score_replacement"] == 0.87
    assert graph.nodes["target"]["label"] == "CD19+ B"
    assert "position" not in graph.nodes["bias"]
    assert to_graphml(circuit) == to_graphml(circuit)


@pytest.mark.parametrize("make", [cell_circuit, consensus_circuit, hostile_circuit])
def test_every_node_and_edge_comes_back_from_the_networkx_graph(make):
    """Also after networkx' own JSON, which is how a graph travels between programs."""
    circuit = make()
    text = json.dumps(nx.node_link_data(to_networkx(circuit), edges="links"))
    graph = nx.node_link_graph(json.loads(text), directed=True, multigraph=False, edges="links")
    added = {"label", "strength", "sign"}
    nodes = [
        Node(id=name, **{key: value for key, value in data.items() if key not in added})
        for name, data in graph.nodes(data=True)
    ]
    edges = {
        (a, b): Edge(a, b, **{key: value for key, value in data.items() if key not in added})
        for a, b, data in graph.edges(data=True)
    }
    assert tuple(nodes) == circuit.nodes
    assert edges == {(edge.source, edge.target): edge for edge in circuit.edges}
    assert json.loads(graph.graph["provenance"]) == circuit.provenance


def test_an_unknown_end_is_a_users_error():
    with pytest.raises(ScxError, match="ghost"):
        to_networkx(cell_circuit()._replace(edges=(Edge("target", "ghost", 1.0),)))
