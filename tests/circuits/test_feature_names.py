"""What a feature is called, and what drives it: two things."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits.circuit import Circuit, Edge, Node, Target
from scx_core.circuits.feature_names import (
    ANSWER_POSITION,
    FROM_CIRCUIT,
    MANY_GENES,
    PROMPT_WORD,
    ByPlace,
    FeatureName,
    NameBook,
    Where,
    added_up,
    drivers,
    named_nodes,
    where_active,
    where_in_cell,
    with_names,
)

GENES = ("CD74", "LTB", "MZB1", "B2M", "ACTB")
TARGET = Target("B against others", "B", 9, {5: 1.0, 6: -1.0}, ("NK",), ("x",), 2.0)


@pytest.mark.parametrize(
    ("mass", "text", "share", "gene"),
    [
        ([3, 2, 1, 1, 1, 1, 1], "CD74", 0.3, "CD74"),
        ([2, 2, 2, 2, 2, 0, 0], MANY_GENES, 1.0, None),  # a fifth at each gene
        ([3, 0, 0, 0, 0, 6, 1], PROMPT_WORD, 0.6, None),  # 30% at CD74, but most of it is at the prompt
        ([1, 1, 1, 0, 0, 1, 6], ANSWER_POSITION, 0.6, None),
        ([-5, 2, 0, 0, 0, 0, 0], "LTB", 1.0, "LTB"),
    ],
)
def test_a_gene_names_a_feature_with_a_quarter_of_its_activation(mass, text, share, gene):
    found = where_active(np.array(mass, dtype=float), GENES)
    assert (found.text, found.gene) == (text, gene)
    assert found.share == pytest.approx(share)


def test_without_activation_there_is_no_name():
    assert where_active(np.zeros(7), GENES) is None


def test_a_node_of_one_cell_is_called_after_its_token():
    assert where_in_cell(Where("LTB", "gene", 0.4, "LTB"), "LTB", " LT").text == "LTB"
    few = where_in_cell(Where("LTB", "gene", 0.02, "LTB"), "LTB", " LT")
    assert (few.text, few.kind, few.share) == ("many genes, here LTB", "many genes", 0.02)
    assert where_in_cell(Where(ANSWER_POSITION, "answer", 0.1), None, " CD").text == f"{ANSWER_POSITION} “CD”"
    assert where_in_cell(Where(PROMPT_WORD, "prompt", 0.1), None, "\n").text == PROMPT_WORD


def test_the_driver_is_the_gene_that_adds_most_with_its_share_of_what_is_added():
    added = np.array([[4.0, 1, -9, 0, 0, 3, 0], [-1.0, -2, 0, 0, 0, 5, 0]])
    assert drivers(added, GENES) == [("CD74", 0.5), None]
    assert drivers(np.zeros((1, 2)), ()) == [None]


def test_sums_over_cells_keep_genes_apart():
    one = ByPlace(("f:1:7", "f:1:8"), ("CD74", "LTB"), np.array([[1.0, 2, 3, 4], [9.0, 9, 9, 9]]))
    two = ByPlace(("f:1:7",), ("ACTB", "CD74"), np.array([[5.0, 6, 7, 8]]))
    found = added_up([one, two], ["f:1:7", "f:2:0"])
    assert found.genes == ("ACTB", "CD74", "LTB")
    assert found.sum_RP.tolist() == [[5, 7, 2, 10, 12], [0, 0, 0, 0, 0]]


def test_a_feature_driven_by_one_gene_and_active_at_the_answer_is_not_called_after_the_gene():
    node = Node("f:3:908", "feature", 3, None, 908)
    active = ByPlace((node.id,), ("CD74", "MZB1"), np.array([[0.1, 0.0, 0.0, 0.9]]))
    added = ByPlace((node.id,), ("CD74", "MZB1"), np.array([[0.1, 0.8, 0.1, 0.0]]))
    (found,) = named_nodes([node], active, active, added)
    assert (found.name, found.gene, found.driven_by) == (ANSWER_POSITION, None, "MZB1")
    assert (found.name_share, found.driven_share) == (pytest.approx(0.9), pytest.approx(0.8))


def circuit(scope: str = "cell") -> Circuit:
    """Features at a gene and at the answer, both driven by MZB1."""
    at = {"cell": (4, 9), "consensus": (None, None)}[scope]
    nodes = (
        Node("f:1:4:7", "feature", 1, at[0], 7, "LTB", "a", 3.0, name="LTB", name_kind="gene", name_share=0.6,
             name_source="circuit", active_at="LTB", active_share=0.6, driven_by="MZB1", driven_share=0.2),
        Node("f:2:9:8", "feature", 2, at[1], 8, None, ":", 3.0, name=ANSWER_POSITION, name_source="circuit",
             active_at=ANSWER_POSITION, driven_by="MZB1", driven_share=0.9),
        Node("t:4", "embedding", None, at[0], None, "LTB", "a"),
        Node("target", "target", position=at[1], activation=2.0, influence=1.0, effect=2.0),
    )  # fmt: skip
    edges = (Edge("f:1:4:7", "target", 1.5), Edge("f:2:9:8", "target", 0.5))
    scores = {"value": 2.0}
    return Circuit(scope, TARGET, (), nodes, edges, scores, {}, {"names": FROM_CIRCUIT})


def test_names_come_back_from_json():
    for scope in ("cell", "consensus"):
        made = circuit(scope)
        assert Circuit.from_json(json.loads(json.dumps(made.to_json()))) == made


def old(scope: str) -> dict:
    """The record as format 1 had it: no names, and a feature's gene may be what drives it."""
    data = circuit(scope).to_json() | {"schema_version": 1}
    new = ("name", "name_kind", "name_share", "name_source", "active_at", "active_share", "driven_by",
           "driven_share")  # fmt: skip
    for node in data["nodes"]:
        if node["id"] == "f:2:9:8":
            node["gene"] = node["driven_by"]
        for key in new:
            del node[key]
    return data


def test_a_file_of_format_1_stays_readable_and_its_genes_become_what_they_were():
    at_gene, at_answer = Circuit.from_json(old("cell")).nodes[:2]
    assert (at_gene.gene, at_gene.name, at_gene.driven_by) == ("LTB", "LTB", None)
    assert (at_answer.gene, at_answer.name, at_answer.driven_by) == (None, None, "MZB1")
    for node in Circuit.from_json(old("consensus")).nodes[:2]:  # there the two were mixed
        assert (node.gene, node.name, node.driven_by) == (None, None, None)
    assert Circuit.from_json(Circuit.from_json(old("cell")).to_json()) == Circuit.from_json(old("cell"))


def test_an_atlas_gives_names_and_the_provenance_says_so():
    name = FeatureName("prompt “CD”", "prompt", 0.8, "atlas")
    book = NameBook("names from atlas pbmc@0123", {(2, 8): name})
    found = with_names(circuit(), book)
    assert [node.name for node in found.nodes[:2]] == ["LTB", "prompt “CD”"]
    assert [node.name_source for node in found.nodes[:2]] == ["circuit", "atlas"]
    assert found.nodes[1].driven_by == "MZB1" and found.nodes[1].active_at == ANSWER_POSITION
    assert found.provenance["names"] == "names from atlas pbmc@0123"
    assert with_names(circuit(), None).provenance["names"] == FROM_CIRCUIT
    assert with_names(found, book) == found
