"""Two panels: shared places, one scale, what is left out; any names."""

from __future__ import annotations

import pytest

from scx_core.circuits.difference import Difference
from scx_core.figures import View
from scx_core.figures.pair import pair_caption, pair_figure, pair_picture, paired
from tests.builders.hostile import HOSTILE_TEXTS
from tests.figures.fakes import consensus_circuit


def difference(names: tuple[str, str] = ("CD19+ B", "Dendritic")) -> Difference:
    """One circuit, and the same with half of its effects and without every fifth feature."""
    first = consensus_circuit(4)
    gone = {node.id for node in [n for n in first.nodes if n.kind == "feature"][::5]}
    halved = first._replace(
        genes=tuple(row._replace(effect=row.effect / 2) for row in first.genes),
        nodes=tuple(node._replace(effect=node.effect / 2) for node in first.nodes if node.id not in gone),
        edges=tuple(edge for edge in first.edges if not {edge.source, edge.target} & gone),
    )
    return Difference(names, first, halved, first._replace(scope="difference"))


def test_what_both_sides_hold_stands_in_one_place_on_one_scale():
    found = difference()
    pair = paired(found)
    sides = [{box.id: box for box in one.nodes} for one in (pair.first, pair.second)]
    assert set(sides[0]) == set(sides[1])
    assert all((sides[0][key].x, sides[0][key].y) == (sides[1][key].x, sides[1][key].y) for key in sides[0])
    assert pair.first.effect_limit == pair.second.effect_limit
    widths = [{(link.source, link.target): link for link in one.links} for one in (pair.first, pair.second)]
    for ends in set(widths[0]) & set(widths[1]):
        stronger = widths[0][ends].strength >= widths[1][ends].strength
        assert (widths[0][ends].width >= widths[1][ends].width - 1e-9) == stronger or (
            widths[0][ends].strength == pytest.approx(widths[1][ends].strength)
        )


def test_a_box_that_one_side_lacks_says_so_and_has_no_arrows_there():
    found = difference()
    pair = paired(found, View(size="wide"))
    lacking = {b.id for b in pair.second.nodes if any(t.startswith("not in the circuit") for t in b.hover)}
    held = {node.id for node in found.second.nodes}
    assert lacking and all(box.removeprefix("feature ") not in held for box in lacking)
    assert not [link for link in pair.second.links if {link.source, link.target} & lacking]


def test_the_slider_leaves_out_what_differs_little_and_says_how_much():
    found = difference()
    counts = [len(paired(found, least=least).first.nodes) for least in (0.0, 0.3, 0.9)]
    assert counts[0] >= counts[1] > counts[2] >= 1
    pair = paired(found, least=0.9)
    assert f"{pair.left_out:,} genes and features are left out" in pair_caption(found, pair, 0.9)
    effects = {row.gene: row.effect / 2 for row in found.first.genes}
    second = {node.id: node.effect for node in found.second.nodes}
    features = [n for n in found.first.nodes if n.kind == "feature"]
    gaps = [abs(node.effect - second.get(node.id, 0.0)) for node in features]
    most = max(*gaps, *map(abs, effects.values()))
    for box in pair.first.nodes:
        if box.kind == "gene":
            assert abs(effects[box.id.removeprefix("gene ")]) >= 0.9 * most - 1e-9


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_any_name_is_text_in_the_figure(text):
    data = pair_picture(difference((text, "B")), "svg")
    assert b"<script>" not in data and b"</svg>" in data[-64:]


def test_the_figure_is_a_double_column_wide():
    assert pair_figure(difference()).get_size_inches()[0] == pytest.approx(180 / 25.4, abs=0.01)
