"""Supernodes: planted groups are found, sums stay sums, edits that make no step are refused."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scx_core.circuits import Circuit
from scx_core.circuits.circuit import Edge, Node, Supernode, Target
from scx_core.circuits.supernodes import collapse, from_names, likeness, propose
from scx_core.errors import ScxError

TARGET = Target("B", "B", None, {1: 1.0})


def planted(noise: float = 0.05, seed: int = 0) -> Circuit:
    """Layer 0: three features read CD74 and raise the target, two read LYZ and lower it, one is alone."""
    rng = np.random.default_rng(seed)
    genes = [Node(f"gene:{g}", "embedding", gene=g) for g in ("CD74", "LYZ", "B2M", "ACTB")]
    reads = ["CD74"] * 3 + ["LYZ"] * 2 + ["B2M"]
    features = [
        Node(f"f:0:{i}", "feature", 0, None, i, g, influence=0.1, effect=1.0 + i) for i, g in enumerate(reads)
    ]
    upper = Node("f:1:7", "feature", 1, None, 7, "CD74", influence=0.3, effect=2.0)
    edges = []
    for node in features:
        for gene in genes:
            weight = 3.0 if gene.gene == node.gene else 0.0
            edges.append(Edge(gene.id, node.id, weight + noise * rng.normal()))
        sign = {"CD74": 1.0, "LYZ": -1.0, "B2M": 0.5}[node.gene]
        edges.append(Edge(node.id, "target", sign * 2 + noise * rng.normal()))
        edges.append(Edge(node.id, "f:1:7", (sign > 0) * sign + noise * rng.normal()))
        edges.append(Edge("bias", node.id, 9.0))
    edges.append(Edge("f:1:7", "target", 1.0))
    nodes = (*genes, *features, upper, Node("bias", "bias"), Node("target", "target"))
    return Circuit("consensus", TARGET, (), nodes, tuple(edges), {}, {"max_relative_error": 0.0}, {})


@pytest.mark.parametrize("seed", range(5))
def test_planted_groups_are_found_and_named_after_their_genes(seed):
    found = propose(planted(seed=seed))
    assert {group.members for group in found} == {("f:0:0", "f:0:1", "f:0:2"), ("f:0:3", "f:0:4")}
    assert {group.name for group in found} == {"CD74", "LYZ"}


def test_opposite_features_are_not_alike():
    found = likeness(planted(noise=0.0), ["f:0:0", "f:0:1", "f:0:3"])
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] < 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_joining_keeps_sums_and_makes_no_cycle(seed, least):
    circuit = planted(noise=2.0, seed=seed)
    joined = collapse(circuit._replace(supernodes=propose(circuit, least)))
    for field in ("effect", "influence"):
        sums = [sum(getattr(node, field) for node in one.nodes) for one in (circuit, joined)]
        assert sums[0] == pytest.approx(sums[1])
    into = [sum(edge.weight for edge in one.edges if edge.target == "target") for one in (circuit, joined)]
    assert into[0] == pytest.approx(into[1])
    graph = nx.DiGraph((edge.source, edge.target) for edge in joined.edges)
    assert nx.is_directed_acyclic_graph(graph)
    assert set(graph) <= {node.id for node in joined.nodes}


def test_nothing_joined_is_the_circuit_itself():
    circuit = planted()
    assert collapse(circuit) == circuit


def test_edits_by_name():
    circuit = planted()
    found = from_names(circuit, {"f:0:0": " mine ", "f:0:5": "mine", "f:0:1": "", "f:1:7": "upper"})
    assert found == (Supernode("mine", ("f:0:0", "f:0:5")), Supernode("upper", ("f:1:7",)))
    with pytest.raises(ScxError, match="layers 0, 1"):
        from_names(circuit, {"f:0:0": "x", "f:1:7": "x"})
    with pytest.raises(ScxError, match="no feature gene:LYZ"):
        from_names(circuit, {"gene:LYZ": "x"})


def test_they_are_saved_with_the_circuit():
    circuit = planted()._replace(supernodes=propose(planted()))
    data = json.loads(json.dumps(circuit.to_json()))
    assert Circuit.from_json(data) == circuit
    data["supernodes"][1]["members"].append("f:0:0")
    with pytest.raises(ScxError, match="supernodes"):
        Circuit.from_json(data)
    del data["supernodes"]
    assert Circuit.from_json(data).supernodes == ()
