"""Intervals of shares and of sums over cells: how far a figure could be off because only so many were seen.

Legend: K resamples, U units that are drawn (cells, or donors), C cells, S sums of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

Z95 = 1.959963984540054  # of the standard normal distribution: 95% lie within ± this
RESAMPLES, SEED = 1000, 0
AT_ONCE = 4_000_000  # counts of a part of the resamples that exist at a time


class Interval(NamedTuple):
    """A 95% interval, ends included; nan where it is undefined."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


UNKNOWN = Interval(math.nan, math.nan)


def wilson(k: int, n: int, z: float = Z95) -> Interval:
    """The interval of a share `k` of `n` (Wilson 1927); it stays inside 0 to 1 and is right for few. nan for
    n = 0. 55 of 70: 0.676 to 0.865. Raises ValueError when k is no count of n."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no share")
    if n == 0:
        return UNKNOWN
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(
    sums_CS: np.ndarray,
    figure: Callable[[np.ndarray], np.ndarray],
    groups_C: np.ndarray | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The interval of a figure that is made from sums over cells, such as a ratio of two: percentiles over
    drawn cells, or, where `groups_C` names donors, `over_groups`, as few donors cannot be drawn from.

    `sums_CS` are the cells' own sums [C, S]; `figure` makes [K] figures from K resampled totals [K, S]. nan
    with fewer than two units.
    """
    units_US = np.asarray(sums_CS, dtype=np.float64)
    if groups_C is not None:
        return over_groups(units_US, figure, groups_C)
    n = len(units_US)
    if n < 2:
        return UNKNOWN
    rng, found = np.random.default_rng(seed), []
    at_once = max(1, AT_ONCE // n)
    for start in range(0, resamples, at_once):
        drawn_KU = rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, resamples - start))
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.asarray(figure(drawn_KU @ units_US), dtype=np.float64))
    values_K = np.concatenate(found)
    values_K = values_K[np.isfinite(values_K)]
    return Interval(*map(float, np.quantile(values_K, [0.025, 0.975]))) if len(values_K) else UNKNOWN


def over_groups(
    sums_CS: np.ndarray, figure: Callable[[np.ndarray], np.ndarray], groups_C: np.ndarray
) -> Interval:
    """The interval of such a figure over whole groups (donors): Student's t on its delete-one-group jackknife
    error, number of groups − 1 degrees of freedom (Efron & Tibshirani 1993, ch. 11). A bootstrap over three
    to six donors is too narrow: of 95% intervals over four, eight in ten hold the truth.

    nan with fewer than two groups, or where the figure is undefined without one of them.
    """
    _, place_C = np.unique(np.asarray(groups_C).astype(str), return_inverse=True)
    units_US = np.zeros((place_C.max(initial=-1) + 1, np.asarray(sums_CS).shape[1]))
    np.add.at(units_US, place_C, np.asarray(sums_CS, dtype=np.float64))
    n, total_S = len(units_US), units_US.sum(0)
    if n < 2:
        return UNKNOWN
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = float(np.asarray(figure(total_S[None]))[0])
        without_U = np.asarray(figure(total_S[None] - units_US), dtype=np.float64)
    if not (math.isfinite(whole) and np.isfinite(without_U).all()):
        return UNKNOWN
    error = math.sqrt((n - 1) / n * float(((without_U - without_U.mean()) ** 2).sum()))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return Interval(whole - reach, whole + reach)
