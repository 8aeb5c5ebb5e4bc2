"""A view is one file: it reads back, draws as it was left, and a bad one is refused in a line."""

from __future__ import annotations

import json

import pytest

from scx_core.errors import ScxError
from scx_core.figures import View, export_bytes
from scx_core.figures.drawing.edits import Edits, drawn, only
from scx_core.figures.saved_view import SavedView, parse_view
from tests.figures.fakes import cell_circuit, consensus_circuit, hostile_circuit


def content(view: SavedView) -> bytes:
    return json.dumps(view.to_json()).encode()


@pytest.mark.parametrize("circuit", [consensus_circuit(3), hostile_circuit("consensus")])
def test_a_view_reads_back_and_is_drawn_as_it_was_left(circuit):
    boxes = [box.id for box in drawn(circuit, Edits(), View()).nodes if box.kind in ("gene", "feature")]
    saved = SavedView(
        circuit,
        Edits().hide(boxes[:1]).rename(boxes[-1], "mine"),
        View(max_genes=7),
        (boxes[1],),
        {"type": "B"},
    )
    assert parse_view(content(saved), "view.json") == saved
    page = export_bytes(circuit, "html", edits=saved.edits)
    assert page != export_bytes(circuit, "html")


def test_a_circuit_alone_is_a_view_that_nothing_was_done_to():
    circuit = consensus_circuit(3)
    assert parse_view(json.dumps(circuit.to_json()).encode(), "c.json") == SavedView(circuit)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scx_view": 2}, "another format"),
        ({"edits": None}, "no view"),
        ({"edits": {"hidden": "x"}}, "no view"),
        ({"view": {"size": "huge"}}, "no view"),
        ({"view": 3}, "no view"),
        ({"chosen": 5}, "no view"),
        ({"circuit": {"nodes": []}}, "no circuit"),
        ({"asked": [1]}, "no view"),
    ],
)
def test_a_bad_view_is_refused_in_one_line(change, words):
    data = SavedView(cell_circuit()).to_json() | change
    with pytest.raises(ScxError, match=words) as found:
        parse_view(json.dumps(data).encode(), "view.json")
    assert "\n" not in found.value.problem


def test_the_smallest_circuit_holds_its_features_and_everything_that_is_none():
    circuit = consensus_circuit(4)
    features = [node for node in circuit.nodes if node.kind == "feature"]
    wanted = [(node.layer, node.feature) for node in features[:3]]
    small = only(circuit, wanted)
    assert {(n.layer, n.feature) for n in small.nodes if n.kind == "feature"} == set(wanted)
    rest = [[n for n in one.nodes if n.kind != "feature"] for one in (small, circuit)]
    assert rest[0] == rest[1]
    held = {node.id for node in small.nodes}
    assert small.edges and all({edge.source, edge.target} <= held for edge in small.edges)
