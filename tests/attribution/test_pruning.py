"""Influence and cuts (method §6): against a closed form, and their properties on random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scx_core.attribution.pruning import (
    completeness_score,
    influence,
    normalised,
    prune,
    replacement_score,
    smallest_set,
)


@st.composite
def graphs(draw):
    """A random acyclic graph: rows = C features and the target, columns = features, errors, tokens."""
    n = draw(st.integers(1, 7))
    others = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    edges = rng.normal(size=(n + 1, n + others)) * (rng.random((n + 1, n + others)) < 0.6)
    edges[:n, :n] = np.tril(edges[:n, :n], -1)  # a feature reads only features before it
    return n, edges


@given(graphs())
def test_influence_is_the_closed_form_of_the_series(graph):
    n, edges = graph
    share = normalised(edges)
    square = np.zeros((share.shape[1] + 1,) * 2)
    square[:n, :-1], square[-1, :-1] = share[:n], share[n]
    series = np.linalg.inv(np.eye(len(square)) - square) - np.eye(len(square))
    found = influence(share)
    assert found.column_S == pytest.approx(series[-1, :-1], abs=1e-12)
    assert found.row_R == pytest.approx(np.append(series[-1, :n], 1.0), abs=1e-12)


@given(graphs())
def test_what_enters_the_target_ends_in_errors_and_tokens_or_in_features_without_input(graph):
    n, edges = graph
    share = normalised(edges)
    found = influence(share)
    ends = found.column_S[n:].sum() + found.column_S[:n][share[:n].sum(1) == 0].sum()
    assert ends == pytest.approx(share[n].sum(), abs=1e-9)


def test_input_from_outside_the_graph_lowers_the_shares():
    edges = np.array([[0.0, 2.0, -2.0], [3.0, 0.0, 1.0]])
    share = normalised(edges, np.array([4.0, 0.0]))
    assert share[0] == pytest.approx([0, 0.25, 0.25])
    assert share[1] == pytest.approx([0.75, 0, 0.25])


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 10)), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_smallest_set_reaches_the_share_and_no_smaller_one_does(values, share):
    score = np.array(values)
    kept = smallest_set(score, share)
    if score.sum() == 0:
        assert not kept.any()
        return
    assert score[kept].sum() >= share * score.sum() * (1 - 1e-9)
    largest = np.sort(score)[::-1]
    assert largest[: max(kept.sum() - 1, 0)].sum() < share * score.sum()


@settings(max_examples=200)
@given(graphs(), st.floats(0.3, 1.0), st.floats(0.3, 1.0))
def test_nothing_dangles_after_the_cut(graph, node_share, edge_share):
    n, edges = graph
    share = normalised(edges)
    kept = prune(share, influence(share), node_share, edge_share)
    rows, columns = np.nonzero(kept.edge_RS)
    assert kept.column_S[columns].all()
    assert all(r == n or kept.column_S[r] for r in rows)
    for s in np.flatnonzero(kept.column_S):
        assert s in columns, "every node leads on"
        if s < n:
            assert s in rows, "every feature has an input"
    assert (np.abs(edges)[kept.edge_RS] > 0).all()


@given(graphs())
def test_cutting_nothing_keeps_every_edge_that_flows(graph):
    n, edges = graph
    share = normalised(edges)
    found = influence(share)
    kept = prune(share, found, 1.0, 1.0)
    has_input = np.append(share[:n].any(1), True)
    reached = np.append(found.column_S[:n] > 1e-15, True)
    for r, s in zip(*np.nonzero(kept.edge_RS), strict=True):
        assert has_input[r]
        assert reached[r]
        assert share[r, s] > 0


def test_scores_by_hand():
    # target ← feature (3/4) and token (1/4); feature ← error (1/3) and token (2/3)
    share = np.array([[0.0, 1 / 3, 2 / 3], [3 / 4, 0.0, 1 / 4]])
    column_S, row_R = influence(share)
    assert column_S == pytest.approx([0.75, 0.25, 0.75])
    assert replacement_score(column_S, 1, 1) == pytest.approx(0.75)
    assert completeness_score(share, row_R, 1, 1) == pytest.approx(1 - 0.75 / 3 / 1.75)
