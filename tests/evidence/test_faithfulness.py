"""Measures of what a node set keeps, against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scx_core.evidence.interventions import Gains
from scx_core.evidence.smallest.faithfulness import FaithfulnessProblem, faithfulness, faithfulness_interval

EMPTY_B, FULL_B = np.array([0.0, 1.0]), np.array([4.0, 3.0])


def test_share_is_a_ratio_of_sums():
    assert faithfulness(np.array([[2.0, 3.0], [0.0, 1.0], [4.0, 3.0]]), EMPTY_B, FULL_B) == pytest.approx(
        [4 / 6, 0, 1]
    )


def test_a_cell_beyond_full_makes_up_for_another_in_the_share_only():
    value_NB = np.array([[6.0, 1.0]])
    assert faithfulness(value_NB, EMPTY_B, FULL_B, "share") == pytest.approx([1.0])
    assert faithfulness(value_NB, EMPTY_B, FULL_B, "closeness") == pytest.approx([1 - (2 + 2) / 6])


def test_the_measures_agree_where_no_cell_goes_beyond_full():
    value_NB = np.array([[1.0, 2.5], [3.9, 1.1]])
    assert faithfulness(value_NB, EMPTY_B, FULL_B, "closeness") == pytest.approx(
        faithfulness(value_NB, EMPTY_B, FULL_B)
    )


def test_the_interval_holds_the_measure_and_is_the_seeds():
    rng = np.random.default_rng(0)
    empty_B, full_B = rng.normal(0, 1, 40), rng.normal(5, 1, 40)
    value_B = empty_B + 0.8 * (full_B - empty_B) + rng.normal(0, 0.5, 40)
    low, high = faithfulness_interval(value_B, empty_B, full_B, 3)
    assert low < faithfulness(value_B[None], empty_B, full_B)[0] < high
    assert 0.02 < high - low < 0.2
    assert faithfulness_interval(value_B, empty_B, full_B, 3) == (low, high)


def test_the_interval_is_over_donors_where_they_are_known_and_covers():
    """Cells of a donor keep the same share; the truth is 0.8."""
    wide, covered = [], {"donors": 0, "cells": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        donor_B = np.repeat(np.arange(6), 5)
        empty_B, full_B = np.zeros(30), rng.normal(5, 0.5, 30)
        value_B = full_B * (0.8 + rng.normal(0, 0.1, 6)[donor_B] + rng.normal(0, 0.05, 30))
        over = {
            "donors": faithfulness_interval(value_B, empty_B, full_B, 0, donors=[str(d) for d in donor_B]),
            "cells": faithfulness_interval(value_B, empty_B, full_B, 0),
        }
        wide.append(np.subtract(*over["donors"]) / np.subtract(*over["cells"]))
        for name, (low, high) in over.items():
            covered[name] += low <= 0.8 <= high
    assert np.median(wide) > 1.5
    assert covered["donors"] >= 52  # 57 of 60 are meant
    assert covered["cells"] < 45


@pytest.mark.parametrize("measure", ["share", "closeness"])
def test_gains_are_derivatives_of_the_measure(measure):
    """A target that is linear in two gates, one cell below its full value and one beyond it."""
    slope_B2 = np.array([[3.0, 0.5], [1.0, 6.0]])

    def gates(nodes):
        gate = np.zeros((1, 2))
        gate[nodes[:, 0], nodes[:, 1]] = 1
        return gate

    tried = SimpleNamespace(
        coders=SimpleNamespace(layers=[0], n_features=2),
        n_cells=2,
        empty_B=EMPTY_B,
        full_B=FULL_B,
        gains=lambda nodes, level, by, cells: Gains(
            (EMPTY_B + slope_B2 @ gates(nodes)[0])[cells], slope_B2[cells][:, None, :]
        ),
    )
    problem = FaithfulnessProblem(tried, measure)
    kept_now = np.array([1])
    value_B = EMPTY_B + slope_B2[:, 1]

    def measured(step_2):
        return faithfulness((value_B + slope_B2 @ step_2)[None], EMPTY_B, FULL_B, measure)[0]

    slopes = [(measured(1e-6 * unit) - measured(-1e-6 * unit)) / 2e-6 for unit in np.eye(2)]
    assert problem.gains(kept_now) == pytest.approx(slopes, abs=1e-6)
    few = FaithfulnessProblem(tried, measure, gradient_cells=1)
    assert few.gains(np.zeros(0, dtype=int)) == pytest.approx(problem.gains(np.zeros(0, dtype=int)))
    assert few.gains(kept_now) == pytest.approx(slope_B2[0] / 4.0), "the first cell, which is below full"
