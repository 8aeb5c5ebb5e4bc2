"""Intervals of what few cells hold: they miss 0 as seldom as they say, and where and only where p < 0.05."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.statistics.hypothesis_tests import p_values
from scx_core.statistics.resampling import held_intervals, mean_interval, one_group, two_groups

HELD = (0.05, 0.1, 0.2, 0.5, 1.0)  # chance that a cell holds a gene
COLUMNS = 400


def held_by(share: float, n: int, seed: int = 1) -> np.ndarray:
    """Columns whose mean is 0, held by `share` of the cells, 0 in the others."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, COLUMNS)) < share) * rng.normal(size=(n, COLUMNS))


SAMPLINGS = {
    "one group": lambda: one_group(30, 0),
    "pairs": lambda: two_groups(30, 30, 0, paired=True),
    "two groups": lambda: two_groups(30, 30, 0),
    "unequal groups": lambda: two_groups(20, 40, 0),
}


@pytest.mark.parametrize("share", HELD)
@pytest.mark.parametrize("which", SAMPLINGS)
def test_0_is_left_out_as_seldom_as_said_and_where_p_says_so(which, share):
    sampling = SAMPLINGS[which]()
    value_CX = held_by(share, len(sampling.group_C))
    found = sampling.of(value_CX)
    out_X = (found.low > 0) | (found.high < 0)
    assert out_X.mean() <= 0.07
    assert (out_X == (p_values(sampling, value_CX) < 0.05)).all()
    assert ((found.low <= found.mean) & (found.mean <= found.high)).all()
    again = SAMPLINGS[which]().of(value_CX)
    assert (again.low == found.low).all()
    assert (again.high == found.high).all()


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_effects_are_still_found_and_held(share):
    value_CX = held_by(share, 30) + (held_by(share, 30) != 0) * 1.5
    found = one_group(30, 0).of(value_CX)
    assert ((found.low <= 1.5 * share) & (found.high >= 1.5 * share)).mean() >= 0.9
    if share >= 0.5:
        assert (found.low > 0).mean() > 0.9


def test_a_figure_of_its_own_has_the_wider_of_both_intervals():
    for value_C in held_by(0.1, 30).T[:40]:
        sampling = one_group(30, 0)
        table, own = sampling.of(value_C[:, None]), mean_interval(value_C, sampling)
        assert own.low <= table.low[0]
        assert own.high >= table.high[0]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_so_few_cells_leave_no_0_out(n):
    value_CX = np.random.default_rng(0).normal(5.0, 1.0, (n, COLUMNS))
    found = one_group(n, 0).of(value_CX)
    assert (found.low <= 0).all()
    assert np.isfinite([found.low, found.high]).all()


def test_means_over_two_held_cells_are_as_unsure_as_they_are():
    value_CX = np.full((30, COLUMNS), np.nan)
    value_CX[:2] = np.random.default_rng(3).normal(size=(2, COLUMNS))
    _, low_X, high_X = held_intervals(one_group(30, 0), value_CX)
    assert ((low_X <= 0) & (high_X >= 0)).mean() >= 0.93
