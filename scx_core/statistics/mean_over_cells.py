"""A mean over cells with its interval, in the way of circuits (`scx_core.statistics.resampling`): bootstrap-t
over donors where they are known, else over cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scx_core.statistics.resampling import Sampling


class Estimate(NamedTuple):
    """A mean over cells with its 95% interval."""

    mean: float
    low: float
    high: float


def estimate(value_C: np.ndarray, sampling: Sampling) -> Estimate:
    """Mean of one value a cell, and its interval."""
    found = sampling.of(np.asarray(value_C, dtype=np.float64)[:, None])
    return Estimate(float(found.mean[0]), float(found.low[0]), float(found.high[0]))
