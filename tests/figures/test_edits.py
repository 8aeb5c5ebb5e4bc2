"""What a person does to a picture: taken back, saved, read back, drawn; and refused where it is no such
record."""

from __future__ import annotations

import json

import pytest

from scx_core.errors import ScxError
from scx_core.figures import View, simplify
from scx_core.figures.drawing.edits import Edits, drawn
from tests.builders.hostile import HOSTILE_TEXTS
from tests.figures.fakes import consensus_circuit, hostile_circuit

CIRCUIT = consensus_circuit(4)
PLAIN = simplify(CIRCUIT, View(size="screen"))


def _features(layer: int | None = None) -> list[str]:
    return [b.id for b in PLAIN.nodes if b.kind == "feature" and layer in (None, b.layer)]


def test_a_hidden_box_takes_its_arrows_with_it_and_the_rest_stays_where_it_was():
    gone = _features()[0]
    made = drawn(CIRCUIT, Edits().hide([gone]), View(size="screen"))
    assert gone not in {box.id for box in made.nodes}
    assert not [link for link in made.links if gone in (link.source, link.target)]
    where = {box.id: (box.x, box.y) for box in PLAIN.nodes}
    assert all(where[box.id] == (box.x, box.y) for box in made.nodes)
    assert any("1 box hidden by hand" in note for note in made.notes)


def test_a_pinned_box_stays_on_the_paper():
    first, second = _features()[:2]
    made = drawn(CIRCUIT, Edits().pin({first: (400.0, 300.0), second: (9e5, -9e5)}), View(size="screen"))
    boxes = {box.id: box for box in made.nodes}
    assert (boxes[first].x, boxes[first].y) == (400.0, 300.0)
    assert boxes[second].x + boxes[second].width / 2 <= made.width and boxes[second].y > 0
    assert drawn(CIRCUIT, Edits().pin({first: (400.0, 300.0)}).unpin([first]), View(size="screen")) == PLAIN


def test_a_name_given_is_drawn_and_an_empty_one_is_the_own_again():
    box = _features()[0]
    named = Edits().rename(box, "antigen receptor")
    assert {b.label for b in drawn(CIRCUIT, named, View()).nodes if b.id == box} == {"antigen receptor"}
    assert named.rename(box, "  ") == Edits()


def test_joined_features_are_one_box_and_their_arrows_add_up():
    layer = next(b.layer for b in PLAIN.nodes if b.kind == "feature" and len(_features(b.layer)) > 2)
    two = _features(layer)[:2]
    edits = Edits().join(CIRCUIT, two, "one step")
    made = drawn(CIRCUIT, edits, View(size="screen"))
    (box,) = [b for b in made.nodes if b.label == "one step"]
    assert not {b.id for b in made.nodes} & set(two)
    into = {link.source: link.weight for link in made.links if link.target == box.id}
    both = {link.source: 0.0 for link in PLAIN.links if link.target in two}
    for link in PLAIN.links:
        if link.target in two:
            both[link.source] += link.weight
    common = set(into) & set(both)
    assert common
    third = _features(layer)[2]
    grown = edits.join(CIRCUIT, [box.id, third], "more")
    assert len(grown.steps) == 1 and len(grown.steps[0].members) == 3
    with pytest.raises(ScxError, match="layers"):
        other = next(b.id for b in PLAIN.nodes if b.kind == "feature" and b.layer != layer)
        Edits().join(CIRCUIT, [two[0], other], "no")


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_record_reads_back_whatever_the_names(text):
    edits = Edits().hide([f"gene {text}"[:150]]).rename("feature x", text).pin({"feature x": (1.0, 2.0)})
    assert Edits.from_json(json.loads(json.dumps(edits.to_json()))) == edits
    circuit = hostile_circuit("consensus")
    drawn(circuit, edits, View())


@pytest.mark.parametrize(
    "bad",
    [
        None, [], {}, {"hidden": "abc", "places": {}, "names": {}, "steps": []},
        {"hidden": [1], "places": {}, "names": {}, "steps": []},
        {"hidden": [], "places": {"a": [1, float("nan")]}, "names": {}, "steps": []},
        {"hidden": [], "places": {"a": [1]}, "names": {}, "steps": []},
        {"hidden": [], "places": {}, "names": {"a": "b" * 10**4}, "steps": []},
        {"hidden": ["a"] * 10**4, "places": {}, "names": {}, "steps": []},
        {"hidden": [], "places": {}, "names": {}, "steps": [{"name": "x"}]},
        {"hidden": [], "places": {"a": [10**400, 1]}, "names": {}, "steps": []},
        {"hidden": ["\ud800"], "places": {}, "names": {}, "steps": []},
    ],
)  # fmt: skip
def test_a_bad_record_is_refused_in_one_line(bad):
    with pytest.raises(ScxError, match="no view"):
        Edits.from_json(bad)


def test_on_a_screen_no_text_is_below_14_pixels_beside_a_card_at_1920():
    scale = 1110 / PLAIN.width
    for box in PLAIN.nodes:
        assert box.font * scale >= 14, box.label
        assert not box.below or 0.8 * box.font * scale >= 13.99, box.below
