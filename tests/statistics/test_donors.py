"""Tests and intervals over donors: one definition, which holds its level however few and unequal they are."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.statistics.hypothesis_tests import Q, least_t, p_values, q_values, smallest_p, told
from scx_core.statistics.intervals import wilson
from scx_core.statistics.resampling import Sampling, freedom, held_intervals, one_group, two_groups

COLUMNS = 2000
UNEQUAL = {2: [16, 4], 3: [24, 4, 4], 5: [30, 8, 4, 4, 4], 10: [40, *[4] * 9]}
NOMINAL = 0.05


def columns(design: str, sizes: list[int], spread: float) -> tuple[Sampling, np.ndarray]:
    """Values of which no mean differs from 0 but by chance: cells vary, donors vary by `spread` beside."""
    rng, donor_C = np.random.default_rng(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes)
    n = len(donor_C)
    sides = 1 if design == "one" else 2
    of_side_C = np.tile(donor_C, sides) + np.repeat(np.arange(sides) * len(sizes), n)
    value_CX = rng.normal(size=(sides * n, COLUMNS))
    value_CX += spread * rng.normal(size=(sides * len(sizes), COLUMNS))[of_side_C]
    if design == "one":
        return one_group(n, 0, donor_C), value_CX
    return two_groups(n, n, 0, donors=np.tile(donor_C, 2) if design == "crossed" else of_side_C), value_CX


@pytest.mark.parametrize("design", ["one", "crossed", "apart"])
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("equal", [True, False])
def test_p_keeps_its_level_and_the_interval_says_the_same(design, spread, n, equal):
    sampling, value_CX = columns(design, [6] * n if equal else UNEQUAL[n], spread)
    p_X, found = p_values(sampling, value_CX), sampling.of(value_CX)
    assert wilson(int((p_X < NOMINAL).sum()), COLUMNS).low <= NOMINAL
    outside_X = (found.low > 0) | (found.high < 0)
    assert np.array_equal(p_X < NOMINAL, outside_X)


@pytest.mark.parametrize("sizes", UNEQUAL.values())
def test_means_over_held_cells_cover_with_unequal_donors(sizes):
    sampling, value_CX = columns("one", sizes, 1.0)
    value_CX[np.random.default_rng(3).random(value_CX.shape) < 0.4] = np.nan
    _, low_X, high_X = held_intervals(sampling, value_CX)
    known_X = ~np.isnan(low_X)
    assert wilson(int(((low_X > 0) | (high_X < 0)).sum()), int(known_X.sum())).low <= NOMINAL


def test_a_whole_family_of_few_donors_calls_nothing_by_chance():
    """600 genes that go together by donor: any call in at most 5% of 200 families."""
    sampling, any_found = one_group(30, 0, np.repeat(np.arange(3), 10)), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        of_donor = rng.normal(size=(3, 4)) @ rng.normal(size=(4, 600))
        value_CX = rng.normal(size=(30, 600)) + np.repeat(of_donor, 10, 0)
        any_found += bool((q_values(p_values(sampling, value_CX)) < Q).any())
    assert wilson(any_found, 200).low <= NOMINAL


def test_degrees_of_freedom_fall_where_one_donor_has_most_cells():
    sizes = np.array([[10.0, 10.0, 10.0], [24.0, 4.0, 4.0]]).T[None]
    equal, unequal = freedom(sizes)
    assert equal == pytest.approx(2.0)
    assert 1.0 < unequal < 2.0
    assert np.isnan(freedom(np.array([[[5.0], [0.0]]]))[0])


def test_the_smallest_p_is_one_that_the_test_gives():
    sampling = one_group(6, 0, ["a", "a", "b", "b", "c", "c"])
    nearly = 1 + np.array([-1, -1, 0, 0, 1, 1]) * 1e-11
    assert 0 < smallest_p(sampling) < p_values(sampling, nearly[:, None])[0] < 1e-15
    assert 4.0 < least_t(sampling, 1) < 4.4 < 100 < least_t(sampling, 600)
    assert least_t(one_group(6, 0), 600) is None


def test_told_needs_q_and_interval():
    assert told(0.01, 0.1, 0.4)
    assert not told(0.01, -0.1, 0.4)
    assert not told(0.2, 0.1, 0.4)
    assert not told(None, 0.1, 0.4)
    assert told(0.01)
