"""Neuronpedia's graph: the schema, unique ids, links between nodes that exist, and what each key means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Supernode, Target
from scx_core.errors import ScxError
from scx_core.figures import export_bytes, neuronpedia_graph
from scx_core.figures.formats.export import export
from scx_core.figures.formats.neuronpedia import cantor
from tests.figures.fakes import PROVENANCE, cell_circuit, consensus_circuit, hostile_circuit

SCHEMA = json.loads((Path(__file__).parent / "neuronpedia.schema.json").read_text("utf-8"))
Draft202012Validator.check_schema(SCHEMA)
VALIDATOR = Draft202012Validator(SCHEMA)
CELL = Target("A against B", "A", 3, {7: 1.0, 5: -1.0}, ("B",), (" CD",), 2.0)


def small(**changes) -> Circuit:
    """Four tokens, two layers, every kind of node."""
    nodes = (
        Node("f:1:2:9", "feature", 1, 2, 9, "CD79A", " CD79", 1.5, 0.5, 0.4),
        Node("f:0:1:9", "feature", 0, 1, 9, None, " of", 0.5, 0.2, 0.1),
        Node("e:1:3", "error", 1, 3, None, None, ":", None, 0.1, 0.1),
        Node("t:2", "embedding", None, 2, None, "CD79A", " CD79", None, 0.6, 0.3),
        Node("bias", "bias", effect=0.2),
        Node("target", "target", position=3, activation=2.0, influence=1.0),
    )
    edges = (Edge("t:2", "f:1:2:9", -0.5), Edge("f:1:2:9", "target", 1.0), Edge("bias", "target", 0.2))
    circuit = Circuit(
        "cell", CELL, (GeneEffect("CD79A", 0.3, 1.0),), nodes, edges, {"probability": 0.75}, {},
        PROVENANCE, 1, (11, 12, 13, 14), ("The", " of", " CD79", ":"), ("CD79A",),
    )  # fmt: skip
    return circuit._replace(**changes)


def checked(circuit: Circuit, **more) -> dict:
    """The graph, after everything that must hold of any graph."""
    graph = neuronpedia_graph(circuit, **more)
    VALIDATOR.validate(graph)
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids) == len(circuit.nodes)
    assert {end for link in graph["links"] for end in (link["source"], link["target"])} <= set(ids)
    assert len(graph["links"]) == len(circuit.edges)
    assert set(graph["qParams"]["pinnedIds"]) <= set(ids)
    assert {name for _, *names in graph["qParams"]["supernodes"] for name in names} <= set(ids)
    n_tokens = len(graph["metadata"]["prompt_tokens"])
    assert all(node["ctx_idx"] < n_tokens for node in graph["nodes"])
    return graph


def by_id(graph: dict) -> dict[str, dict]:
    return {node["node_id"]: node for node in graph["nodes"]}


@pytest.mark.parametrize(
    "circuit",
    [cell_circuit(), consensus_circuit(), hostile_circuit(), hostile_circuit("consensus")],
    ids=["cell", "consensus", "hostile", "hostile consensus"],
)
def test_any_circuit_gives_a_graph_that_validates(circuit):
    checked(circuit)


def test_the_keys_of_every_kind_of_node():
    graph = checked(small())
    nodes = by_id(graph)
    feature, error, token, bias, logit = (nodes[k] for k in ("1_9_2", "1_-1_3", "E_13_2", "bias", "3_7_3"))
    assert feature["feature"] == (1 + 9) * (1 + 9 + 1) // 2 + 9 == cantor(1, 9)
    assert (feature["layer"], feature["ctx_idx"], feature["jsNodeId"]) == ("1", 2, "1_9-0")
    assert (feature["clerp"], feature["activation"]) == ("CD79A", 1.5)
    assert (error["feature"], error["jsNodeId"], error["activation"]) == (-1, "1_-1-3", None)
    assert (token["feature"], token["layer"], token["clerp"]) == (2, "E", "CD79A")
    assert (bias["layer"], bias["influence"], bias["ctx_idx"]) == ("E", None, 3)
    assert (logit["feature"], logit["layer"], logit["influence"]) == (7, "3", None)
    assert logit["clerp"] == "A against B (p=0.75)" and logit["token_prob"] == 0.75
    assert logit["is_target_logit"] and not feature["is_target_logit"]
    assert {"source": "E_13_2", "target": "1_9_2", "weight": -0.5} in graph["links"]
    assert graph["metadata"]["prompt"] == "The of CD79:"


def test_influence_is_cumulative_so_that_low_is_important():
    nodes = by_id(checked(small()))
    shares = [nodes[key]["influence"] for key in ("E_13_2", "1_9_2", "0_9_1", "1_-1_3")]
    assert shares == pytest.approx([0.6 / 1.4, 1.1 / 1.4, 1.3 / 1.4, 1.0])
    assert max(shares) <= checked(small())["metadata"]["node_threshold"]


def test_metadata_says_where_the_graph_comes_from():
    provenance = PROVENANCE | {"config": {"trace": {"nodes": 384, "node_share": 0.8, "edge_share": 0.98}}}
    meta = checked(small(provenance=provenance))["metadata"]
    assert meta["scan"] == "pbmc-neox-4x128"
    assert re.fullmatch(r"a-cell-[0-9a-f]{8}", meta["slug"])
    assert meta["pruning_settings"] == {"node_threshold": 0.8, "edge_threshold": 0.98}
    assert meta["generation_settings"]["max_feature_nodes"] == 384
    assert meta["info"]["generator"]["name"] == "scX"
    assert meta["scx"]["target"]["coefficients"] == {"7": 1.0, "5": -1.0}
    assert meta["scx"]["provenance"]["model"]["fingerprint"] == PROVENANCE["model"]["fingerprint"]
    other = small()._replace(scores={"probability": 0.5})
    assert checked(other)["metadata"]["slug"] != checked(small())["metadata"]["slug"]


def test_labels_of_features_come_first():
    nodes = by_id(checked(small(), labels={"L1·9": "B-cell receptor", "f:0:1:9": "a list of genes"}))
    assert nodes["1_9_2"]["clerp"] == "B-cell receptor"
    assert nodes["0_9_1"]["clerp"] == "a list of genes"
    assert by_id(checked(small()))["0_9_1"]["clerp"] == "of"


def test_a_consensus_stands_on_its_genes_in_the_order_of_the_sentence():
    circuit = consensus_circuit()
    graph = checked(circuit)
    first, *genes, last = graph["metadata"]["prompt_tokens"]
    assert (first, last) == ("(prompt)", "(answer)")
    rank = {gene.gene: gene.rank for gene in circuit.genes}
    assert [rank[gene] for gene in genes] == sorted(rank[gene] for gene in genes)
    nodes = by_id(graph)
    feature = next(node for node in circuit.nodes if node.kind == "feature" and node.gene)
    place = genes.index(feature.gene) + 1
    assert nodes[f"{feature.layer}_{feature.feature}_{place}"]["ctx_idx"] == place
    target = next(node for node in graph["nodes"] if node["feature_type"] == "logit")
    assert target["ctx_idx"] == len(genes) + 1
    assert graph["metadata"]["scx"]["made_up_context"] is True


def test_steps_are_supernodes_and_so_are_genes_of_several_tokens():
    nodes = (*small().nodes, Node("t:1", "embedding", None, 1, None, "CD79A", " of", None, 0.1, 0.1))
    step = Supernode("reads <CD79A>", ("f:1:2:9", "f:0:1:9"))
    view = checked(small(nodes=nodes, supernodes=(step,)))["qParams"]
    assert view["supernodes"] == [["reads ‹CD79A›", "1_9_2", "0_9_1"], ["CD79A", "E_13_2", "E_12_1"]]
    assert set(view["pinnedIds"]) == {"3_7_3", "1_9_2", "0_9_1", "E_13_2", "E_12_1"}


def test_a_features_target_and_an_unknown_probability():
    target = CELL._replace(coefficients={}, kind="feature", layer=2, feature=40, label="L2·40 (p=1)")
    logit = next(n for n in checked(small(target=target, scores={}))["nodes"] if n["is_target_logit"])
    assert logit["node_id"] == f"4_{cantor(2, 40)}_3"
    assert logit["clerp"] == "L2·40 (p =1) (p=unknown)" and logit["token_prob"] is None


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node("twin", "feature", 1, 2, 9), "would both be 1_9_2"),
        (Node("twin", "bias"), "would both be bias"),
        (Node("odd", "feature", None, 2, 9), "'odd' states no layer"),
        (Node("odd", "feature", 1, 2, -4), "'odd' states no feature"),
        (Node("far", "error", 1, 10**9), "outside any prompt"),
    ],
)
def test_what_no_trace_gives_is_a_users_error(node, words):
    with pytest.raises(ScxError, match=words):
        neuronpedia_graph(small(nodes=(*small().nodes, node)))
    two_sets = small(scope="difference", nodes=(*small().nodes, Node("B:f", "feature", 1, None, 9, "CD79A")))
    with pytest.raises(ScxError, match="export one of the two circuits"):
        neuronpedia_graph(two_sets)
    with pytest.raises(ScxError, match="ghost"):
        neuronpedia_graph(small(edges=(Edge("target", "ghost", 1.0),)))


def test_a_file_name_on_neuronpedia_is_that_format(tmp_path):
    (path,) = export(small(), tmp_path / "mine_Neuronpedia.json")
    assert path.read_bytes() == export_bytes(small(), "neuronpedia")
    assert set(json.loads(path.read_text("utf-8"))) == {"metadata", "qParams", "nodes", "links"}
    (native,) = export(small(), tmp_path / "mine.json")
    assert Circuit.from_json(json.loads(native.read_text("utf-8"))) == small()


NAMES = st.text(max_size=8) | st.sampled_from(["<b>", "CD79A", '"', "a (p=0.1)", "1_2_3", "bias", "E_0_0"])
NUMBER = st.floats(-10, 10)


@st.composite
def circuits(draw) -> Circuit:
    """Any circuit that could be traced: nodes differ in what they stand for, edges in their ends."""
    scope = draw(st.sampled_from(["cell", "consensus", "difference"]))
    tokens = draw(st.lists(NAMES, min_size=1, max_size=5))
    genes = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    place = st.integers(0, len(tokens) - 1) if scope == "cell" else st.none()
    layer, number = st.integers(0, 3), st.integers(0, 70_000)
    gene = st.sampled_from([None, *genes])
    features = draw(st.lists(st.tuples(layer, place, number), max_size=8, unique=True))
    errors = draw(st.lists(st.tuples(layer, place), max_size=4, unique=True))
    whole, unit = draw(NUMBER), st.floats(0, 1)
    held = draw(st.lists(place if scope == "cell" else st.sampled_from(genes), max_size=5, unique=True))
    nodes = [
        Node(f"f{at}", "feature", *at, draw(gene), draw(NAMES), draw(NUMBER), draw(unit)) for at in features
    ]
    nodes += [Node(f"e{at}", "error", *at, influence=draw(unit)) for at in errors]
    for what in held:
        at, of = (what, draw(gene)) if scope == "cell" else (None, what)
        nodes.append(Node(f"t{what}", "embedding", None, at, None, of, draw(NAMES), influence=draw(unit)))
    last = len(tokens) - 1 if scope == "cell" else None
    nodes += [Node("bias", "bias"), Node("target", "target", position=last, activation=whole)]
    pairs = st.tuples(*[st.sampled_from([node.id for node in nodes])] * 2)
    edges = [Edge(*pair, draw(NUMBER)) for pair in draw(st.lists(pairs, max_size=12, unique=True))]
    target = Target(draw(NAMES), draw(NAMES), last, {draw(number): 1.0, 70_001: -1.0}, value=whole)
    effects = tuple(GeneEffect(name, draw(NUMBER), draw(st.floats(1, 50))) for name in genes)
    chance = {"probability": draw(unit)} if draw(st.booleans()) else {}
    own = (tuple(range(len(tokens))), tuple(tokens)) if scope == "cell" else ((), ())
    return Circuit(scope, target, effects, tuple(nodes), tuple(edges), chance, {}, {}, 1, *own)


@settings(max_examples=40)
@given(circuits())
def test_ids_and_links_hold_for_random_circuits(circuit):
    graph = checked(circuit)
    kinds = {node["node_id"]: node["feature_type"] for node in graph["nodes"]}
    assert list(kinds.values()).count("logit") == 1
    for node, there in zip(circuit.nodes, graph["nodes"], strict=True):
        if node.kind == "feature":
            assert there["feature"] == cantor(node.layer, node.feature)
    json.dumps(graph, allow_nan=False)
