"""The search on problems whose answer is known, and the laws that hold for every problem."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.evidence.smallest.circuit_search import FoundSet, Prefixes, SearchConfig, exchange, rank

CFG = SearchConfig()


class Toy:
    """Score = value · gates + gates · pair · gates, with its exact gradient; counts what was measured."""

    def __init__(self, value_X, pair_XX=None) -> None:
        self.value_X = np.asarray(value_X, dtype=float)
        self.pair_XX = np.zeros((len(self.value_X),) * 2) if pair_XX is None else pair_XX
        self.measured = 0

    @property
    def n_candidates(self) -> int:
        return len(self.value_X)

    def _gates(self, kept, level=0.0):
        gate_X = np.full(self.n_candidates, level)
        gate_X[kept] = 1.0
        return gate_X

    def scores(self, sets):
        self.measured += len(sets)
        gates = [self._gates(kept) for kept in sets]
        return np.array([self.value_X @ g + g @ self.pair_XX @ g for g in gates])

    def gains(self, kept, level=0.0):
        gate_X = self._gates(kept, level)
        return self.value_X + (self.pair_XX + self.pair_XX.T) @ gate_X


def solve(toy, wanted, cfg=CFG) -> FoundSet:
    return exchange(toy, Prefixes(toy, rank(toy)).shortest(wanted), wanted, cfg)


def test_without_interactions_the_largest_values_are_found():
    toy = Toy([0.05, 0.4, 0.1, 0.3, -0.2, 0.35])
    assert solve(toy, 0.7).members.tolist() == [1, 5]
    assert solve(toy, 0.76).members.tolist() == [1, 3, 5]


@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_what_is_found_is_measured_reaches_and_is_no_larger_than_the_prefix(seed, wanted):
    rng = np.random.default_rng(seed)
    toy = Toy(rng.normal(0.05, 0.1, 30), rng.normal(0, 0.01, (30, 30)))
    start = Prefixes(toy, rank(toy)).shortest(wanted)
    found = exchange(toy, start, wanted, CFG)
    assert len(found.members) <= len(start.members) or not start.reached
    assert found.score == toy.scores([found.members])[0]
    assert found.reached == (found.score >= wanted)
    assert found.members.tolist() == sorted(set(found.members.tolist()))


def test_a_pair_that_is_worth_nothing_apart_is_not_lost():
    """Two candidates that count only together: gradients at empty do not see them, those on the way do."""
    pair_XX = np.zeros((8, 8))
    pair_XX[0, 1] = 0.9
    toy = Toy([0.0, 0.0, *[0.15] * 6], pair_XX)
    assert solve(toy, 0.85).members.tolist() == [0, 1]


def test_exchanges_find_the_smallest_set_where_the_ranking_does_not():
    """Candidates 0 to 3 do the same: full credit goes to each on the ranking, one of them is enough."""
    pair_XX = np.zeros((7, 7))
    for i, j in itertools.combinations(range(4), 2):
        pair_XX[i, j] = -0.38
    toy = Toy([0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2], pair_XX)
    wanted = 0.95
    sizes = [
        len(kept)
        for n in range(8)
        for kept in itertools.combinations(range(7), n)
        if toy.scores([np.array(kept, dtype=int)])[0] >= wanted
    ]
    found = solve(toy, wanted)
    assert found.reached and len(found.members) == min(sizes)


def test_no_exchanges_leave_the_prefix_alone():
    toy = Toy(np.linspace(0.3, -0.1, 9))
    start = Prefixes(toy, rank(toy)).shortest(0.6)
    assert exchange(toy, start, 0.6, SearchConfig(exchanges=0)) == start


def test_prefixes_are_the_shortest_and_measured_once():
    toy = Toy(np.full(200, 0.01))
    prefixes = Prefixes(toy, np.arange(200))
    assert len(prefixes.shortest(0.395).members) == 40
    before = toy.measured
    assert len(prefixes.shortest(0.395).members) == 40
    assert toy.measured == before
    assert before < 25, "not one size after the other"


def test_the_first_of_several_prefixes_in_a_gap_is_taken():
    toy = Toy([*[0.1] * 18, -0.5, *[0.1] * 13])
    assert len(Prefixes(toy, np.arange(32)).shortest(1.75).members) == 18


def test_what_cannot_be_reached_is_the_best_there_is():
    toy = Toy([0.3, 0.2, -0.4])
    prefixes = Prefixes(toy, rank(toy))
    best = prefixes.shortest(0.9)
    assert (best.members.tolist(), best.reached) == ([0, 1], False)
    assert best.score == pytest.approx(0.5)
    assert exchange(toy, best, 0.9, CFG) == best
    assert not prefixes.shortest(0.45, largest=1).reached
