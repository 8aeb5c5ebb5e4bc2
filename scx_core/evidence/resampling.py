"""Intervals and tests over cells, or over donors where there are donors.

Cells of one donor are no independent draws: where the table names donors, whole donors are drawn and whole
donors change their sign.
Legend: C cells, D donors (each cell is its own where there are none), K draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

from scx_core.intervals import bootstrap

DRAWS = 2000
SIGN_FLIPS = 10_000


class Units(NamedTuple):
    """What is resampled: `unit_C` the number of each cell's unit, `name` "cells" or "donors"."""

    unit_C: np.ndarray
    name: str

    @property
    def n(self) -> int:
        """D."""
        return int(self.unit_C.max()) + 1 if len(self.unit_C) else 0


class Estimate(NamedTuple):
    """A mean over cells with its 95% percentile bootstrap interval."""

    mean: float
    low: float
    high: float


def units_of(donors: np.ndarray | None, rows: np.ndarray) -> Units:
    """Donors, where the table has them and these cells come from at least two; else cells."""
    if donors is not None:
        names, unit_C = np.unique(donors[rows], return_inverse=True)
        if len(names) > 1:
            return Units(unit_C, "donors")
    return Units(np.arange(len(rows)), "cells")


def estimate(value_C: np.ndarray, units: Units, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Mean of one value a cell, and its interval by drawing units with replacement."""
    sums_C2 = np.stack([value_C, np.ones_like(value_C)], 1)
    groups = units.unit_C if units.name == "donors" else None
    found = bootstrap(
        sums_C2, lambda total_K2: total_K2[:, 0] / total_K2[:, 1], groups, resamples=draws, seed=seed
    )
    return Estimate(float(np.mean(value_C)), *found)


def sign_flip_p(difference_C: np.ndarray, units: Units, seed: int = 0, flips: int = SIGN_FLIPS) -> float:
    """Two-sided p of a mean paired difference under random signs of whole units."""
    sum_D = np.bincount(units.unit_C, difference_C, units.n)
    sign_KD = np.random.default_rng(seed).choice([-1.0, 1.0], (flips, units.n))
    beyond = np.abs(sign_KD @ sum_D) >= np.abs(sum_D.sum()) - 1e-12
    return float((1 + beyond.sum()) / (1 + flips))


def q_values(p: list[float]) -> list[float]:
    """Benjamini-Hochberg over all of them."""
    return false_discovery_control(np.array(p)).tolist() if p else []
