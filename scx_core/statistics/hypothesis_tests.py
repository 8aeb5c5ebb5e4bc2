"""Which of many effects differ: p of each column, q over all, and the same rule where nothing differs.

Cells: the labels of the two groups are permuted (paired cells and one group: signs are turned), the
statistic is Welch's t, p = (1 + permutations at least as far out) / (1 + permutations) (Phipson & Smyth
2010).
Columns that chance reaches soon stop early; each step draws anew, so no p becomes too small by it. The step
that decides at 0.05 has the draws of the interval (inverted_tests.py), so that both say the same. Donors: a
t test on what each donor adds (cluster-robust, as pseudobulk tests do), because few donors cannot be permuted
in enough ways; error and degrees of freedom are those of the interval (resampling.py), so both say the same.
Where nothing differs, p < 0.05 in at most 5% for 2 to 10 donors of equal or unequal numbers of cells
(tests/statistics/test_donors.py). q is Benjamini and Hochberg's, over one family: all genes, all
features or all edges.
Legend: C cells, X columns, P permutations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from scx_core.statistics.inverted_tests import (
    DRAWS,
    LEAST,
    TIE,
    dealings,
    dealt,
    signs,
    standardised,
)
from scx_core.statistics.resampling import DRAWN, FLAT, Sampling, blocks, two_groups

Q = 0.05  # below it, and only then, something is called different
SPLITS = 20  # random halves of one group
FIRST, SECOND, LAST = 200, DRAWS, 100_000  # permutations of the three steps; the last at most
_GO_ON = (0.15, 0.01)  # p up to which a column goes on to the next step


def q_values(p_X: np.ndarray, n_tests: int | None = None) -> np.ndarray:
    """Benjamini and Hochberg's q of `p_X`, [X], over all of them, or over `n_tests` of which the others have
    p = 1 (scipy's `false_discovery_control`, which would hold these one by one)."""
    order_X = np.argsort(p_X, kind="stable")
    n = len(p_X) if n_tests is None else n_tests
    scaled_X = p_X[order_X] * (n / np.arange(1, len(p_X) + 1))
    q_X = np.empty(len(p_X))
    q_X[order_X] = np.minimum(np.minimum.accumulate(scaled_X[::-1])[::-1], 1.0)
    return q_X


def p_values(sampling: Sampling, value_CX: np.ndarray, seed: int = 0) -> np.ndarray:
    """p of every column: that its mean is 0 (one group), or equal in both. Two-sided, [X]; of few cells never
    less than what all their permutations could give, which a sample of permutations may go below."""
    if sampling.kind == "donors":
        return _donors(sampling, value_CX)
    rng = np.random.default_rng([seed, 17])
    n_X = value_CX.shape[1]
    if sampling.n_groups == 1 or sampling.paired:
        half = len(value_CX) // 2
        one_CX = value_CX[:half] - value_CX[half:] if sampling.paired else value_CX
        own_PC = signs(len(one_CX), sampling.seed)
        p_X = _stepwise(n_X, lambda n, at, own: _flipped(one_CX[:, at], n, rng, own_PC if own else None))
    else:
        first_C = sampling.group_C == 0
        own_PC = dealings(len(first_C), int(first_C.sum()), sampling.seed)
        p_X = _stepwise(
            n_X, lambda n, at, own: _permuted(value_CX[:, at], first_C, n, rng, own_PC if own else None)
        )
    return np.maximum(p_X, smallest_p(sampling))


def _stepwise(n_X: int, p_of: Callable[[int, np.ndarray, bool], np.ndarray]) -> np.ndarray:
    """p by ever more permutations for the columns that chance does not reach. The second step decides near
    0.05, and uses the draws that the interval is made of (`True`), so that both say the same."""
    p_X, at = np.ones(n_X), np.arange(n_X)
    for step in range(3):
        if not len(at):
            break
        # Chance must not reach a column so often that BH over all would call it; with many columns left,
        # that is decided by fewer permutations.
        n = (FIRST, SECOND, int(np.clip(min(800 / len(at), 30) * n_X, SECOND, LAST)))[step]
        p_X[at] = p_of(n, at, step == 1)
        at = at[p_X[at] <= _GO_ON[step]] if step < 2 else at[:0]
    return p_X


def _flipped(
    value_CX: np.ndarray, n: int, rng: np.random.Generator, own_PC: np.ndarray | None = None
) -> np.ndarray:
    """Turned signs (`own_PC`: these). Squares stay, so that the order of |t| is that of |sum|."""
    sum_X, beyond_X = np.abs(value_CX.sum(0)), np.zeros(value_CX.shape[1])
    bar_X = sum_X - TIE * np.abs(value_CX).sum(0)
    for part in blocks(n, DRAWN):
        size = min(n, part.stop) - part.start
        sign_PC = rng.integers(0, 2, (size, len(value_CX))) * 2.0 - 1.0 if own_PC is None else own_PC[part]
        beyond_X += (np.abs(sign_PC @ value_CX) >= bar_X).sum(0)
    return (1 + beyond_X) / (1 + n)


def _permuted(
    value_CX: np.ndarray,
    first_C: np.ndarray,
    n: int,
    rng: np.random.Generator,
    own_PC: np.ndarray | None = None,
) -> np.ndarray:
    """Labels permuted (`own_PC`: like this), Welch's t."""
    z_CX, constant_X = standardised(value_CX)
    bar_X = _welch(first_C, z_CX) * (1 - TIE) - TIE
    reached = _reached_equal if 2 * first_C.sum() == len(first_C) else _reached
    beyond_X = np.zeros(z_CX.shape[1])
    for part in blocks(n, DRAWN):
        size = min(n, part.stop) - part.start
        first_PC = dealt(rng, len(z_CX), int(first_C.sum()), size) if own_PC is None else own_PC[part]
        beyond_X += reached(first_PC, z_CX, bar_X)
    return np.where(constant_X, 1.0, (1 + beyond_X) / (1 + n))


def _welch(first_C: np.ndarray, z_CX: np.ndarray) -> np.ndarray:
    """|t| of standardised columns, [X]; an error of less than `LEAST` is that."""
    one_CX, two_CX = z_CX[first_C], z_CX[~first_C]
    square_X = sum(part.var(0) / max(1, len(part) - 1) for part in (one_CX, two_CX))
    return np.asarray(np.abs(one_CX.mean(0) - two_CX.mean(0)) / np.sqrt(np.maximum(square_X, LEAST)))


def _reached(first_PC: np.ndarray, z_CX: np.ndarray, bar_X: np.ndarray) -> np.ndarray:
    """How many permutations have a |t| of at least `bar_X`, [X]: gap² against bar² · error², as sums of first
    values and of their squares say them."""
    n, m = int(first_PC[0].sum()), int(len(z_CX) - first_PC[0].sum())
    over_n, over_m = 1 / (n * max(1, n - 1)), 1 / (m * max(1, m - 1))
    square_CX = z_CX**2
    sum_PX, error_PX = first_PC @ z_CX, first_PC @ square_CX
    rest_PX = z_CX.sum(0) - sum_PX
    gap_PX = sum_PX / n - rest_PX / m
    error_PX *= over_n - over_m
    error_PX += square_CX.sum(0) * over_m
    error_PX -= np.square(sum_PX, out=sum_PX) * (over_n / n)
    error_PX -= np.square(rest_PX, out=rest_PX) * (over_m / m)
    error_PX = np.maximum(error_PX, LEAST, out=error_PX)
    error_PX *= np.maximum(bar_X, 0.0) ** 2
    return np.asarray((np.square(gap_PX, out=gap_PX) >= error_PX).sum(0))


def _reached_equal(first_PC: np.ndarray, z_CX: np.ndarray, bar_X: np.ndarray) -> np.ndarray:
    """The same of two groups of one size n. Both errors together are (Σ z² / n − gap² / 2) / (n − 1) there,
    so that |t| rises with the gap of the means alone: one product, and no division."""
    n = len(z_CX) // 2
    bar_X, free = np.maximum(bar_X, 0.0), max(1, n - 1)
    from_t_X = bar_X * np.sqrt((z_CX**2).sum(0) / n / (free + bar_X**2 / 2))
    least_X = n * (1 - 1e-12) * np.maximum(from_t_X, bar_X * np.sqrt(LEAST))
    gap_PX = (2 * first_PC - 1) @ z_CX
    return np.asarray((np.abs(gap_PX, out=gap_PX) >= least_X).sum(0))


def _donors(sampling: Sampling, value_CX: np.ndarray) -> np.ndarray:
    """Student's t of the mean over its cluster-robust error, as `Sampling.of` makes its interval. It takes
    what donors add for normal; by their signs alone 3 donors could not give less than p = 0.25."""
    mean_X, error_X = sampling.weight_C @ value_CX, sampling.errors(value_CX)
    flat_X = error_X <= FLAT * np.abs(value_CX).max(0, initial=0.0)
    t_X = np.where(flat_X, 0.0, mean_X / np.where(flat_X, 1.0, error_X))
    return np.asarray(np.where(flat_X, 1.0, 2 * stats.t.sf(np.abs(t_X), sampling.freedom)))


def test_name(sampling: Sampling) -> str:
    """The test in words."""
    if sampling.kind == "donors":
        return "t test of the means per donor (cluster-robust)"
    if sampling.n_groups == 1:
        return "signs turned at random"
    return "signs of the pairs turned at random" if sampling.paired else "cell types dealt anew, Welch's t"


def smallest_p(sampling: Sampling) -> float:
    """The smallest p that so many cells can give, however large the difference. Of donors: that of a mean
    as many times its error as numbers tell apart, 2e-24 for 3 of equal size."""
    if sampling.kind == "donors":
        return float(2 * stats.t.sf(1 / FLAT, sampling.freedom))
    units = sampling.units_G
    if sampling.n_groups == 1 or sampling.paired:
        return float(min(1.0, 2.0 ** (1 - units[0])))
    ways = math.comb(sum(units), units[0])
    return min(1.0, (2 if units[0] == units[1] else 1) / ways)


def least_t(sampling: Sampling, n_tests: int) -> float | None:
    """How many times its error a mean must be to be called alone among `n_tests`; None over cells, where
    `smallest_p` says what few can show."""
    if sampling.kind != "donors" or not n_tests:
        return None
    return float(stats.t.isf(Q / n_tests / 2, sampling.freedom))


def told(q: float | None, low: float | None = None, high: float | None = None) -> bool:
    """Whether an effect is told from 0: q below `Q`, and no interval that holds 0. Over donors both are of
    one t; over cells p is of permutations and the interval of bootstraps, and both must say so."""
    held = low is not None and high is not None and low <= 0 <= high
    return q is not None and q < Q and not held


def family(held_CX: np.ndarray, sampling: Sampling, min_share: float) -> np.ndarray:
    """Columns that enough cells hold to be tested, whatever their group: what a group with `min_share` of its
    cells would need. A choice by group would favour what differs by chance."""
    least = min_share * np.bincount(sampling.group_C).min()
    return np.asarray(held_CX.sum(0) >= max(1.0, least - 1e-9))


class NullSplit(NamedTuple):
    """One group split into two random halves, `splits` times: `found` columns differ in each, of `tested`."""

    tested: int
    found: tuple[int, ...]

    def to_json(self) -> dict[str, float]:
        """Mean, least and most of the splits, and the share of splits in which anything differs."""
        return {
            "tested": self.tested,
            "splits": len(self.found),
            "mean": float(np.mean(self.found)),
            "least": min(self.found),
            "most": max(self.found),
            "any": sum(count > 0 for count in self.found),
        }


def null_split(
    value_CX: np.ndarray, seed: int, donors: np.ndarray | None = None, splits: int = SPLITS
) -> NullSplit | None:
    """What the same rule finds between random halves of one group; whole donors are drawn where it has four
    or more. None with fewer than four cells."""
    n = len(value_CX)
    if n < 4 or not value_CX.shape[1]:
        return None
    rng, found = np.random.default_rng([seed, 29]), []
    names = np.unique(donors) if donors is not None and any(donors) else np.arange(0)
    for _ in range(splits):
        if donors is not None and len(names) >= 4:
            half_C = np.isin(donors, rng.permutation(names)[: len(names) // 2])
        else:
            half_C = np.isin(np.arange(n), rng.permutation(n)[: n // 2])
        order = np.concatenate([np.flatnonzero(half_C), np.flatnonzero(~half_C)])
        donors_here = donors[order] if len(names) >= 4 and donors is not None else None
        sampling = two_groups(int(half_C.sum()), int((~half_C).sum()), seed, donors=donors_here)
        p_X = p_values(sampling, value_CX[order], int(rng.integers(2**31)))
        found.append(int((q_values(p_X) < Q).sum()))
    return NullSplit(value_CX.shape[1], tuple(found))
