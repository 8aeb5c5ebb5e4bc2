"""A feature's name and its driver are two things in every picture, table and file."""

from __future__ import annotations

import io
import json

import networkx as nx
import pytest

from scx_core.circuits.circuit import Circuit
from scx_core.circuits.supernodes import collapse, propose
from scx_core.figures import (
    View,
    captions,
    circuit_page,
    export_bytes,
    neuronpedia_graph,
    simplify,
    to_graphml,
)
from scx_core.figures.captions import feature_title
from tests.builders.hostile import HOSTILE_TEXTS
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit, named

BOTH = pytest.mark.parametrize("make", [cell_circuit, consensus_circuit])


def features(circuit: Circuit):
    return [node for node in circuit.nodes if node.kind == "feature"]


@BOTH
@pytest.mark.parametrize("size", ["wide", "column"])
def test_a_box_has_the_name_and_below_it_what_drives_it_and_its_number(make, size):
    drawing = simplify(named(make()), View(size=size))
    boxes = [box for box in drawing.nodes if box.kind == "feature"]
    assert boxes and all(box.label == "HLA- genes" for box in boxes)
    for box in boxes:
        place, driver, number = box.below.split(" · ")
        assert (place, driver) == ("at answer", "MZB1 6%") and number.startswith("L")
        assert box.hover[0] == "HLA- genes"
        assert "family, 62% of its activation, says the atlas" in box.hover
        assert "most from MZB1: 6.0% of what tokens add to it, over all paths" in box.hover
        assert any(line.startswith("stands here at: answer position, 90% of it") for line in box.hover)
        assert not any("most at" in line or "most active" in line for line in box.hover)
    assert all(box.x - box.width / 2 >= 0 and box.x + box.width / 2 <= drawing.width for box in boxes)
    assert "called after what they are active at in all the cells that were read" in drawing.caption
    n = len(features(named(make())))
    assert (
        f"{n} of {n} stand here at the answer" in drawing.caption
        and "“driven by” from 25%" in drawing.caption
    )
    assert "names from atlas pbmc@0123456789ab" in drawing.caption


def test_without_names_a_box_has_the_gene_that_it_stands_at_or_its_number():
    drawing = simplify(cell_circuit(), View())
    for box in drawing.nodes:
        if box.kind == "feature":
            assert "driven by" not in box.below
    assert "driven by" not in drawing.caption and "called after" not in drawing.caption


def test_driven_by_is_said_of_a_quarter_and_more_and_the_place_where_the_name_does_not_say_it():
    node = features(named(cell_circuit()))[0]
    assert captions.driven_by(node._replace(driven_share=0.25)) == "driven by MZB1 25%"
    assert captions.driven_by(node._replace(driven_share=None)) == "driven by MZB1"  # an older file
    assert captions.driven_by(node._replace(driven_by=None)) == ""
    assert captions.stands_here(node._replace(active_at="prompt word “cell”")) == "at prompt"
    assert captions.stands_here(node._replace(active_at="HLA-DRA")) == "at HLA-DRA"
    assert (
        captions.stands_here(node._replace(active_at="HLA-DRA", name="HLA-DRA, CD74", name_kind="gene")) == ""
    )
    assert captions.stands_here(node._replace(name_source="circuit")) == ""


def test_a_list_of_genes_loses_its_last_ones_where_it_is_too_long():
    node = features(consensus_circuit())[0]._replace(name="HLA-DRB1, HLA-DRB5, HLA-DRA")
    assert feature_title(node, limit=24) == "HLA-DRB1, HLA-DRB5 …"
    assert feature_title(node, limit=16) == "HLA-DRB1 …"
    assert feature_title(node, "given by hand", 24) == "given by hand"


@BOTH
def test_graphml_carries_name_and_driver(make):
    circuit = named(make())
    graph = nx.read_graphml(io.BytesIO(to_graphml(circuit)))
    rows = {data["name"]: data for _, data in graph.nodes(data=True)}
    for node in features(circuit):
        row = rows[node.id]
        assert (row["feature_name"], row["driven_by"]) == ("HLA- genes", "MZB1")
        assert row["label"] == f"HLA- genes · at answer · most from MZB1 6% · L{node.layer}·{node.feature}"
        assert (row["name_kind"], row["name_source"]) == ("family", "atlas")
    assert json.loads(graph.graph["provenance"])["names"] == "names from atlas pbmc@0123456789ab"


@BOTH
def test_neuronpedia_labels_carry_both_and_features_at_the_answer_stand_there(make):
    circuit = named(make())
    graph = neuronpedia_graph(circuit)
    rows = [node for node in graph["nodes"] if node["feature_type"] == "cross layer transcoder"]
    assert rows and all(row["clerp"] == "HLA- genes · at answer · most from MZB1 6%" for row in rows)
    if circuit.scope == "consensus":
        last = len(graph["metadata"]["prompt_tokens"]) - 1
        without = {(n.layer, n.feature) for n in features(circuit) if n.gene is None}
        stands = {tuple(map(int, row["node_id"].split("_")[:2])): row["ctx_idx"] for row in rows}
        assert without and all(stands[key] == last for key in without)
    assert graph["metadata"]["scx"]["provenance"]["names"].startswith("names from atlas")


@BOTH
def test_json_gives_back_names(make):
    circuit = named(make())
    assert Circuit.from_json(json.loads(export_bytes(circuit, "json"))) == circuit


@pytest.mark.parametrize("scope", ["cell", "consensus"])
def test_hostile_names_stay_text(scope):
    circuit = hostile_circuit(scope)
    page = circuit_page(simplify(circuit, View()))
    shown = [node.name for node in features(circuit) if node.name]
    assert set(shown) & set(HOSTILE_TEXTS)
    harmless = circuit_page(simplify(cell_circuit(), View()))
    for opening in ("<img", "<script", "</script", "<b>", "onerror=alert(1)>"):
        assert page.count(opening) == harmless.count(opening), opening
    for row in neuronpedia_graph(circuit)["nodes"]:
        assert not set("<>") & set(row["clerp"])
    graph = nx.read_graphml(io.BytesIO(to_graphml(circuit)))
    assert graph.number_of_nodes() == len(circuit.nodes)
    assert b"<img" not in export_bytes(circuit, "svg")


def test_a_step_is_named_after_what_its_features_are_active_at():
    circuit = named(consensus_circuit())
    steps = propose(circuit)
    assert steps and steps[0].name.startswith("HLA- genes")
    joined = collapse(circuit._replace(supernodes=steps))
    assert joined.node("s:0").name == steps[0].name and joined.node("s:0").gene is None
