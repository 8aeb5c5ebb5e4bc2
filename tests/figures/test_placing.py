"""The geometry: no overlaps, least displacement, fewer crossings, always the same answer."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.figures.drawing.placing import order_layers, spread, wrap

boxes = st.lists(st.tuples(st.floats(0, 1000), st.floats(5, 60)), min_size=1, max_size=12)


@given(boxes)
def test_spread_keeps_order_gap_and_bounds(items):
    wanted, widths = sorted(x for x, _ in items), [w for _, w in items]
    centres = spread(wanted, widths, 0.0, 1000.0, 8.0)
    for (x1, w1), (x2, w2) in pairwise(zip(centres, widths, strict=True)):
        assert x2 - x1 >= (w1 + w2) / 2 + 8.0 - 1e-6
    assert centres[0] - widths[0] / 2 >= -1e-6
    assert centres[-1] + widths[-1] / 2 <= 1000.0 + 1e-6


def test_spread_leaves_alone_what_has_room_and_shares_the_displacement():
    assert spread([100.0, 300.0], [50.0, 50.0], 0.0, 400.0, 10.0) == [100.0, 300.0]
    assert spread([200.0, 200.0], [50.0, 50.0], 0.0, 400.0, 10.0) == [170.0, 230.0]
    assert spread([], [], 0.0, 1.0, 1.0) == []


@given(st.lists(st.floats(10, 300), max_size=30))
def test_wrap_deals_every_item_once_into_rows_that_fit(widths):
    rows = wrap(widths, 320.0, 5.0)
    assert sorted(i for row in rows for i in row) == list(range(len(widths)))
    assert all(row == sorted(row) for row in rows)
    assert all(sum(widths[i] for i in row) + 5.0 * (len(row) - 1) <= 320.0 for row in rows)


def _crossings(upper, lower, links):
    place = {node: i for i, node in enumerate(upper)} | {node: i for i, node in enumerate(lower)}
    return sum((place[a] - place[c]) * (place[b] - place[d]) < 0 for (a, b), (c, d) in combinations(links, 2))


def test_barycentre_sweeps_undo_a_twisted_ladder():
    genes = {f"g{i}": (i + 0.5) / 8 for i in range(8)}
    links = [(f"g{i}", f"f{7 - i}") for i in range(8)]
    near: dict[str, dict[str, float]] = {}
    for gene, feature in links:
        near.setdefault(gene, {})[feature] = near.setdefault(feature, {})[gene] = 1.0
    before = _crossings(sorted({f for _, f in links}), list(genes), [(f, g) for g, f in links])
    (row,) = order_layers([[f for _, f in links]], genes, near)
    assert before == 28
    assert _crossings(row, list(genes), [(f, g) for g, f in links]) == 0


@pytest.mark.parametrize("layer", [["b", "a", "c"], ["c", "b", "a"]])
def test_ties_fall_to_the_id(layer):
    assert order_layers([layer], {}, {}) == [["a", "b", "c"]]
