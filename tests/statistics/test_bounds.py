"""The interval of a share or a correlation ends where these do, over cells as over few donors."""

from __future__ import annotations

import numpy as np

from scx_core.statistics.resampling import CORRELATION, SHARE, mean_interval, one_group
from scx_core.validation.label_agreement import difference

VALUES = np.array([0.0, 0.1, 0.9, 1.0, 1.0, 0.9])


def test_over_three_donors_a_share_stays_between_0_and_1() -> None:
    sampling = one_group(6, 0, list("aabbcc"))
    bare, cut = mean_interval(VALUES, sampling), mean_interval(VALUES, sampling, SHARE)
    assert bare.low < 0 and bare.high > 1, "else this tests nothing"
    assert (cut.mean, cut.low, cut.high) == (bare.mean, 0.0, 1.0)
    assert mean_interval(2 * VALUES - 1, sampling, CORRELATION)[1:] == (-1.0, 1.0)


def test_an_interval_that_lies_inside_is_left_alone() -> None:
    values = 0.4 + VALUES / 10
    sampling = one_group(6, 0)
    assert mean_interval(values, sampling, SHARE) == mean_interval(values, sampling)


def test_a_difference_of_shares_stays_between_its_ends() -> None:
    yes = np.array([True, True, True, True])
    _, span = difference(yes, np.array([False, False, False, True]), np.array(list("aabb")))
    assert -1.0 <= span.low <= span.high <= 1.0
