"""Intervals: known values, and that they cover what they are about."""

import numpy as np
import pytest

from scx_core.statistics.intervals import bootstrap, wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(55, 70, 0.6761, 0.8656), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_by_the_book(k, n, low, high):
    """Computed by hand from Wilson's formula; scipy.stats.binomtest(...).proportion_ci agrees below."""
    from scipy.stats import binomtest

    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_share_of_nothing_is_unknown_and_of_less_is_a_mistake():
    assert np.isnan(wilson(0, 0)).all()
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


def ratio(totals_KS):
    return totals_KS[:, 0] / totals_KS[:, 1]


def test_the_bootstrap_covers_the_truth_of_a_ratio():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(100):
        size_C = rng.integers(50, 150, 60)
        sums_CS = np.stack([size_C * 2.0 + rng.normal(0, 30, 60), size_C], 1)
        hits += 2.0 in bootstrap(sums_CS, ratio, resamples=300, seed=trial)
    assert 86 <= hits <= 100


def test_the_interval_over_four_donors_covers_the_truth_as_often_as_it_says():
    """Donors differ as much as their cells do; percentiles over four drawn donors hold it in eight of ten."""
    rng, hits, n = np.random.default_rng(0), 0, 600
    donors = np.repeat(np.arange(4), 20)
    for _ in range(n):
        size_C = rng.integers(80, 120, 80)
        value_C = 2.0 + rng.normal(0, 0.5, 4)[donors] + rng.normal(0, 0.5, 80)
        hits += 2.0 in bootstrap(np.stack([size_C * value_C, size_C], 1), ratio, donors)
    assert 0.92 * n <= hits <= 0.98 * n


def test_a_figure_that_is_undefined_without_a_donor_has_no_interval():
    sums_CS = np.array([[1.0, 1.0], [2.0, 0.0], [3.0, 0.0]])
    assert np.isnan(bootstrap(sums_CS, ratio, np.array(["a", "b", "c"]))).all()


def test_whole_donors_are_taken_where_they_are_named():
    donors = np.repeat(["a", "b", "c", "d"], 25)
    value_C = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    sums_CS = np.stack([value_C, np.ones(100)], 1)
    cells, whole = bootstrap(sums_CS, ratio), bootstrap(sums_CS, ratio, donors)
    assert whole.high - whole.low > 3 * (cells.high - cells.low), "cells of one donor are no independent ones"
    assert np.isnan(bootstrap(sums_CS, ratio, np.repeat("a", 100))).all(), "one donor says nothing"


def test_the_same_seed_gives_the_same_interval():
    sums_CS = np.random.default_rng(1).random((30, 2)) + 1
    assert bootstrap(sums_CS, ratio) == bootstrap(sums_CS, ratio)
    assert bootstrap(sums_CS, ratio, seed=1) != bootstrap(sums_CS, ratio)
