"""What a mean over cells is uncertain by: its interval, over donors where they are known, else over cells.

Cells of one donor are alike, so the unit is the donor (all its cells together) wherever every group
has cells of two donors or more; else it is the cell, and `note` says so.

Donors: Student's t on a cluster-robust error, with the degrees of freedom of Bell & McCaffrey 2002, which
fall when one donor has most of the cells; p comes from the same t (hypothesis_tests.py), so that p < 0.05
where and only where the interval leaves 0 out. A bootstrap of few donors draws one donor alone too often: of
3, its interval was twice as wide as it had to be, of 10 unequal ones it missed the mean in 13%.
Cells: two 95% intervals are made. The bootstrap-t (Efron & Tibshirani 1993, ch. 12) divides each bootstrap's
mean by its own standard error, which is what a percentile interval leaves out: percentile intervals of 8
normal values hold the mean in 89% of the cases, of 8 skewed ones in 78%; these in 95% and 90%. But of columns
that few cells hold it is too narrow: it left a mean of 0 out in 14% of the cases where 1 cell in 10 held it.
The permutation test that p is of, inverted (inverted_tests.py), is right there. In tables, whose p stands
beside, the end toward 0 is the test's, so that the interval leaves 0 out where and only where p < 0.05, and
the far end is the wider of both. A figure of its own (`mean_interval`) has the wider of both at both ends.
With so few cells that p cannot be below 0.05 (five or fewer) the end toward 0 reaches 0
(tests/statistics/test_resampling.py).
Legend: C cells (rows), U units (cells or donors), B bootstraps, X columns, G groups (one or two).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from scx_core.statistics.inverted_tests import dealings, farthest_t, signs, turned_ends

BOOTSTRAPS = 1000
LEVEL = 0.95
LEAST_ERROR = 0.25  # of the standard error: a bootstrap that drew nearly equal values is no surer than this
FLAT = 1e-12  # of the largest value: an error below it is rounding
COLUMNS = 128  # that are bootstrapped at a time: what is made of them stays in a processor's cache
DRAWN = 2048  # draws that are made at a time


class Statistics(NamedTuple):
    """Statistics over cells, one value a column; `error` is the standard error of the mean over units."""

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray


class Sampling(NamedTuple):
    """Which units the cells are of, and how often each bootstrap draws each unit.

    `weight_C` gives the mean (two groups: that of group 0 less that of group 1), `group_C` the group of each
    cell, `unit_C` its unit, `count_BU` the draws. `kind` is cells or donors, `note` says so for people.
    `paired`: both groups are the same cells in the same order. `seed` drew it, and draws its permutations.
    """

    weight_C: np.ndarray
    group_C: np.ndarray
    unit_C: np.ndarray
    count_BU: np.ndarray
    kind: str
    note: str
    paired: bool = False
    seed: int = 0

    @property
    def n_groups(self) -> int:
        """One or two."""
        return int(self.group_C.max()) + 1

    @property
    def units_G(self) -> tuple[int, ...]:
        """How many units each group has cells of."""
        return tuple(map(len, self._units()))

    def _units(self) -> list[np.ndarray]:
        return [np.unique(self.unit_C[self.group_C == g]) for g in range(self.n_groups)]

    @property
    def crossed(self) -> bool:
        """Whether some unit has cells in both groups."""
        units = self._units()
        return len(units) == 2 and bool(np.intersect1d(units[0], units[1]).size)

    def share(self, held_CX: np.ndarray) -> np.ndarray:
        """Share of the cells that hold each column; of two groups, that of the group where it is larger."""
        groups = np.unique(self.group_C)
        return np.max([held_CX[self.group_C == group].mean(0) for group in groups], axis=0)

    def of(self, value_CX: np.ndarray, wider: bool = False) -> Statistics:
        """Mean (or difference of means), sd over cells, interval and standard error of every column. Over
        cells the interval leaves 0 out where p < 0.05; `wider`: and only where a bootstrap-t does as well."""
        mean_X, error_X = self.weight_C @ value_CX, self.errors(value_CX)
        if self.kind == "donors":
            reach_X = stats.t.ppf((1 + LEVEL) / 2, self.freedom) * error_X
            return Statistics(mean_X, self._sd(value_CX), mean_X - reach_X, mean_X + reach_X, error_X)
        low_X, high_X = np.empty_like(mean_X), np.empty_like(mean_X)
        test_PC = self._test_draws()
        for at in blocks(value_CX.shape[1], COLUMNS):
            mean, error = mean_X[at], error_X[at]
            t_BX = self._studentised(value_CX[:, at], mean, error)
            low, high = np.quantile(t_BX, [(1 + LEVEL) / 2, (1 - LEVEL) / 2], axis=0)
            boot = mean - np.maximum(low, 0.0) * error, mean - np.minimum(high, 0.0) * error
            test = self._tested_ends(value_CX[:, at], mean, error, test_PC)
            flat = error <= FLAT * np.abs(value_CX[:, at]).max(0, initial=0.0)
            low_X[at], high_X[at] = _both(mean, flat, boot, test, wider)
        return Statistics(mean_X, self._sd(value_CX), low_X, high_X, error_X)

    def _test_draws(self) -> np.ndarray:
        """Signs or dealings of the cells that p is of, [P, C]."""
        n = self.units_G[0]
        one = self.n_groups == 1 or self.paired
        return signs(n, self.seed) if one else dealings(len(self.group_C), n, self.seed)

    def _tested_ends(
        self, value_CX: np.ndarray, mean_X: np.ndarray, error_X: np.ndarray, test_PC: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ends that the permutation test leaves in; infinite where it can leave nothing out."""
        if self.n_groups == 1:
            return turned_ends(value_CX, test_PC)
        if self.paired:
            half = len(value_CX) // 2
            return turned_ends(value_CX[:half] - value_CX[half:], test_PC)
        reach_X = farthest_t(value_CX, test_PC) * error_X
        return mean_X - reach_X, mean_X + reach_X

    def _sd(self, value_CX: np.ndarray) -> np.ndarray:
        parts = [value_CX[self.group_C == group] for group in range(self.n_groups)]
        if self.paired:
            parts = [parts[0] - parts[1]]
        variance = [part.var(0, ddof=1) if len(part) > 1 else np.zeros(part.shape[1]) for part in parts]
        return np.asarray(np.sqrt(sum(variance)))

    def sums(self, value_CX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of each unit's values in each group [G, U, X], and its number of cells there [G, U]."""
        sum_GUX = np.zeros((self.n_groups, self.count_BU.shape[1], value_CX.shape[1]))
        np.add.at(sum_GUX, (self.group_C, self.unit_C), value_CX)
        return sum_GUX, self.cells_GU()

    def cells_GU(self) -> np.ndarray:
        """How many cells each unit has in each group."""
        n_GU = np.zeros((self.n_groups, self.count_BU.shape[1]))
        np.add.at(n_GU, (self.group_C, self.unit_C), 1.0)
        return n_GU

    def correction_U(self) -> np.ndarray:
        """What makes the sum of the units' squares the variance of the mean; see `small_sample`."""
        return small_sample(self.cells_GU()[:, :, None])[:, 0]

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error: of two groups without a common unit, those of the smaller."""
        n_GU = self.cells_GU()
        parts = [n_GU] if self.n_groups == 1 or self.crossed else [n_U[None] for n_U in n_GU]
        return min(float(freedom(part_GU[:, :, None])[0]) for part_GU in parts)

    def parts_GUX(self, value_CX: np.ndarray) -> np.ndarray:
        """What each unit adds to the mean beyond its due, by group; their squares make the variance."""
        sum_GUX, n_GU = self.sums(value_CX)
        total_G = n_GU.sum(1)
        mean_GX = sum_GUX.sum(1) / total_G[:, None]
        return (sum_GUX - n_GU[:, :, None] * mean_GX[:, None]) / total_G[:, None, None]

    def errors(self, value_CX: np.ndarray) -> np.ndarray:
        """Standard error of every column's mean over units (cluster-robust), [X]."""
        part_GUX = self.parts_GUX(value_CX)
        part_UX = part_GUX[0] - part_GUX[1] if self.n_groups == 2 else part_GUX[0]
        return np.asarray(np.sqrt((self.correction_U()[:, None] * part_UX**2).sum(0)))

    def _studentised(self, value_CX: np.ndarray, mean_X: np.ndarray, error_X: np.ndarray) -> np.ndarray:
        """(mean − the mean) / its own standard error of every bootstrap, [B, X]."""
        sum_GUX, n_GU = self.sums(value_CX)
        count_BU, fixed_U = self.count_BU.astype(float), self.correction_U()
        fixed_BU = count_BU * fixed_U
        total_GB = n_GU @ count_BU.T
        mean_GBX = [count_BU @ sum_UX / total_GB[g][:, None] for g, sum_UX in enumerate(sum_GUX)]
        variance_BX = np.zeros_like(mean_GBX[0])
        for g, (sum_UX, n_U, m_BX) in enumerate(zip(sum_GUX, n_GU, mean_GBX, strict=True)):
            square = fixed_BU @ sum_UX**2 - 2 * m_BX * (fixed_BU @ (sum_UX * n_U[:, None]))
            square += m_BX**2 * (fixed_BU @ n_U**2)[:, None]
            variance_BX += square / total_GB[g][:, None] ** 2
        found_BX = mean_GBX[0]
        if self.n_groups == 2:
            found_BX = mean_GBX[0] - mean_GBX[1]
            if self.crossed:
                (a_UX, b_UX), (na_U, nb_U), (ma_BX, mb_BX) = sum_GUX, n_GU, mean_GBX
                both = fixed_BU @ (a_UX * b_UX) + ma_BX * mb_BX * (fixed_BU @ (na_U * nb_U))[:, None]
                both -= mb_BX * (fixed_BU @ (a_UX * nb_U[:, None]))
                both -= ma_BX * (fixed_BU @ (b_UX * na_U[:, None]))
                variance_BX -= 2 * both / (total_GB[0] * total_GB[1])[:, None]
        least_X = np.maximum(LEAST_ERROR * error_X, 1e-300)
        error_BX = np.maximum(np.sqrt(np.maximum(variance_BX, 0.0)), least_X)
        gap_BX = found_BX - mean_X
        # Where all units are equal, what is left is rounding.
        gap_BX[:, error_X <= FLAT * np.abs(value_CX).max(0, initial=0.0)] = 0.0
        return gap_BX / error_BX


Ends = tuple[np.ndarray, np.ndarray]


def _both(mean_X: np.ndarray, flat_X: np.ndarray, boot: Ends, test: Ends, wider: bool) -> Ends:
    """Ends of both intervals as one: the test's toward 0 (0 itself where it has none), elsewhere, or with
    `wider` everywhere, the farther; the mean itself where all cells are equal."""
    low_X = np.where(np.isinf(test[0]), boot[0], np.minimum(*(ends[0] for ends in (boot, test))))
    high_X = np.where(np.isinf(test[1]), boot[1], np.maximum(*(ends[1] for ends in (boot, test))))
    if not wider:
        low_X = np.where(mean_X <= 0, low_X, np.where(np.isinf(test[0]), np.minimum(boot[0], 0.0), test[0]))
        high_X = np.where(mean_X >= 0, high_X, np.where(np.isinf(test[1]), np.maximum(boot[1], 0.0), test[1]))
    return np.where(flat_X, mean_X, low_X), np.where(flat_X, mean_X, high_X)


def small_sample(n_GUX: np.ndarray) -> np.ndarray:
    """Factor of each unit's square in the variance of a mean, or of the difference of two, from its cells in
    each group, [U, X]: what makes each square unbiased where the units' means are equally uncertain, as
    donors' are. Of units of equal size it is n / (n − 1)."""
    weight_GUX = n_GUX / np.maximum(n_GUX.sum(1), 1.0)[:, None]
    left_GUX = 1 - 2 * weight_GUX + (weight_GUX**2).sum(1)[:, None]
    return _over((weight_GUX**2).sum(0), (weight_GUX**2 * left_GUX).sum(0))


def freedom(n_GUX: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a cluster-robust variance (Bell & McCaffrey 2002, cells alike), [X]: number of
    units − 1 where all are of one size, fewer where one has most of the cells. nan with cells of fewer
    than two."""
    total_GX, units = np.maximum(n_GUX.sum(1), 1.0)[:, None], np.arange(n_GUX.shape[1])
    # Covariance of what two units add, in units of a cell's variance: [u = v] n_u / n² − n_u n_v / n³.
    covariance_UUX = -np.einsum("gux,gvx->uvx", n_GUX / total_GX**1.5, n_GUX / total_GX**1.5)
    due_UX = (n_GUX / total_GX**2).sum(0)
    covariance_UUX[units, units] += due_UX
    factor_UX = _over(due_UX, covariance_UUX[units, units])
    mean_X = (factor_UX * covariance_UUX[units, units]).sum(0)
    square_X = (factor_UX[:, None] * factor_UX * covariance_UUX**2).sum((0, 1))
    known_X = (n_GUX.sum(0) > 0).sum(0) > 1
    return np.where(known_X, mean_X**2 / np.where(known_X, square_X, 1.0), np.nan)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 1.0)


def interval_words(kind: str) -> str:
    """How the intervals of means over such units (cells or donors) are made, for people."""
    return "95% Student's t" if kind == "donors" else "95% inverted permutation test, bootstrap-t"


def ratio_interval(sampling: Sampling, part_C: np.ndarray, whole_C: np.ndarray) -> tuple[float, float]:
    """Interval of Σ part / Σ whole of one group, over its units, by linearised standard errors: bootstrap-t
    of cells, Student's of donors."""
    part_U, whole_U = sampling.sums(np.stack([part_C, whole_C], 1))[0][0].T
    ratio, fixed_U = part_U.sum() / whole_U.sum(), sampling.correction_U()
    error = np.sqrt((fixed_U * (part_U - ratio * whole_U) ** 2).sum()) / abs(whole_U.sum())
    if sampling.kind == "donors":
        reach = float(stats.t.ppf((1 + LEVEL) / 2, sampling.freedom) * error)
        return float(ratio - reach), float(ratio + reach)
    count_BU = sampling.count_BU.astype(float)
    whole_B = count_BU @ whole_U
    ratio_B = (count_BU @ part_U) / np.where(whole_B == 0, np.nan, whole_B)
    rest_BU = part_U - ratio_B[:, None] * whole_U
    error_B = np.sqrt((count_BU * fixed_U * rest_BU**2).sum(1)) / np.abs(whole_B)
    t_B = (ratio_B - ratio) / np.maximum(error_B, max(LEAST_ERROR * error, 1e-300))
    if error <= 1e-12 * max(1.0, abs(ratio)):
        return float(ratio), float(ratio)
    high, low = np.nanquantile(t_B, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    return float(ratio - max(high, 0.0) * error), float(ratio - min(low, 0.0) * error)


def held_intervals(sampling: Sampling, value_CX: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of each column over the cells in which it is not NaN, and its interval over units; of two groups
    without a common unit, first less second. NaN where a group has no such cell, and for the interval where
    it has fewer than two units with one. Raises ValueError for groups that share units."""
    if sampling.crossed:
        raise ValueError("means over held cells are of one group, or of two without common units")
    held_CX = ~np.isnan(value_CX)
    sum_GUX, _ = sampling.sums(np.where(held_CX, value_CX, 0.0))
    n_GUX, _ = sampling.sums(held_CX.astype(float))
    of_donors = sampling.kind == "donors"
    count_BU = sampling.count_BU[: 0 if of_donors else None].astype(float)
    shape_BX = (len(count_BU), value_CX.shape[1])
    mean_X, variance_X, freedom_X = np.zeros(shape_BX[1]), np.zeros(shape_BX[1]), np.full(shape_BX[1], np.inf)
    mean_BX, variance_BX = np.zeros(shape_BX), np.zeros(shape_BX)
    with np.errstate(invalid="ignore", divide="ignore"):
        for g, (sum_UX, n_UX) in enumerate(zip(sum_GUX, n_GUX, strict=True)):
            m_X = sum_UX.sum(0) / n_UX.sum(0)
            fixed_UX = np.where((n_UX > 0).sum(0) > 1, small_sample(n_UX[None]), np.nan)
            mean_X += (-1) ** g * m_X
            variance_X += (fixed_UX * (sum_UX - n_UX * m_X) ** 2).sum(0) / n_UX.sum(0) ** 2
            if of_donors:
                freedom_X = np.minimum(freedom_X, freedom(n_UX[None]))
                continue
            fixed_X = fixed_UX.max(0, initial=1.0)  # of cells the same for all that hold it
            total_BX = count_BU @ n_UX
            m_BX = count_BU @ sum_UX / total_BX
            square_BX = count_BU @ sum_UX**2 - 2 * m_BX * (count_BU @ (sum_UX * n_UX))
            square_BX += m_BX**2 * (count_BU @ n_UX**2)
            mean_BX += (-1) ** g * m_BX
            variance_BX += fixed_X * np.maximum(square_BX, 0.0) / total_BX**2
        error_X = np.sqrt(variance_X)
        if of_donors:
            reach_X = stats.t.ppf((1 + LEVEL) / 2, freedom_X) * error_X
            return mean_X, mean_X - reach_X, mean_X + reach_X
        least_X = np.maximum(LEAST_ERROR * error_X, 1e-300)
        t_BX = (mean_BX - mean_X) / np.fmax(np.sqrt(variance_BX), least_X)
        t_BX[:, error_X <= FLAT * np.abs(mean_X)] = 0.0
    t_BX[:, np.isnan(error_X)] = 0.0  # all NaN would warn; the error makes the interval NaN
    high_X, low_X = np.nanquantile(t_BX, [(1 + LEVEL) / 2, (1 - LEVEL) / 2], axis=0)
    # Of two cells a bootstrap draws three samples only: of 95%, it held the mean in 84%.
    two_X = (n_GUX > 0).sum(1).min(0) == 2
    reach = float(stats.t.ppf((1 + LEVEL) / 2, 1))
    high_X, low_X = (
        np.where(two_X & (high_X > 0), reach, high_X),
        np.where(two_X & (low_X < 0), -reach, low_X),
    )
    return mean_X, mean_X - np.maximum(high_X, 0.0) * error_X, mean_X - np.minimum(low_X, 0.0) * error_X


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover n columns or draws."""
    return (slice(start, start + size) for start in range(0, n, size))


class Units(NamedTuple):
    """The unit of every row, its kind and what is said about it."""

    unit_C: np.ndarray
    kind: str
    note: str


def units_of(group_C: np.ndarray, donors_C: Sequence[str] | np.ndarray | None, paired: bool = False) -> Units:
    """Donors where every group has two or more, else cells. A cell without a donor is of the donor ""."""
    n = len(group_C)
    cells_C = np.tile(np.arange(n // 2), 2) if paired else np.arange(n)
    if donors_C is None or not any(map(str, donors_C)):
        note = "no donors known: over cells, too narrow where cells of one donor are alike"
        return Units(cells_C, "cells", note)
    names, donor_C = np.unique(np.asarray([str(one) for one in donors_C], dtype=object), return_inverse=True)
    each = [len(np.unique(donor_C[group_C == g])) for g in np.unique(group_C)]
    if min(each) < 2:
        note = "one donor only: over its cells, which says nothing about other donors"
        if len(each) == 2 and max(each) > 1:
            note = "one side is of one donor only: over cells, which says nothing about other donors"
        return Units(cells_C, "cells", note)
    return Units(donor_C.reshape(-1), "donors", f"over {len(names)} donors")


def one_group(n_cells: int, seed: int, donors: Sequence[str] | np.ndarray | None = None) -> Sampling:
    """The mean over cells; `donors` [C] says whose they are, where that is known."""
    group_C = np.zeros(n_cells, dtype=np.int64)
    return _sampling(np.full(n_cells, 1 / n_cells), group_C, units_of(group_C, donors), seed)


def two_groups(
    n_first: int,
    n_second: int,
    seed: int,
    paired: bool = False,
    donors: Sequence[str] | np.ndarray | None = None,
) -> Sampling:
    """First group less second. Paired: both are the same cells in the same order, drawn together. `donors`
    is of the first group's cells and then the second's."""
    weight_C = np.repeat([1 / n_first, -1 / n_second], [n_first, n_second])
    group_C = np.repeat([0, 1], [n_first, n_second])
    return _sampling(weight_C, group_C, units_of(group_C, donors, paired), seed, paired)


def _sampling(
    weight_C: np.ndarray, group_C: np.ndarray, units: Units, seed: int, paired: bool = False
) -> Sampling:
    """Units of separate groups are drawn apart; crossed ones together, again where a group is left empty."""
    rng, n_units = np.random.default_rng(seed), int(units.unit_C.max()) + 1
    groups = range(int(group_C.max()) + 1)
    held_GU = [np.isin(np.arange(n_units), units.unit_C[group_C == g]) for g in groups]
    count_BU = np.zeros((BOOTSTRAPS, n_units), dtype=np.int64)
    apart = len(held_GU) == 2 and not (held_GU[0] & held_GU[1]).any()
    for here in map(np.flatnonzero, held_GU if apart else [np.ones(n_units, dtype=bool)]):
        count_BU[:, here] = rng.multinomial(len(here), [1 / len(here)] * len(here), BOOTSTRAPS)
    while (empty_B := np.any([count_BU[:, held_U].sum(1) == 0 for held_U in held_GU], axis=0)).any():
        count_BU[empty_B] = rng.multinomial(n_units, [1 / n_units] * n_units, int(empty_B.sum()))
    return Sampling(weight_C, group_C, units.unit_C, count_BU, units.kind, units.note, paired, seed)


class MeanInterval(NamedTuple):
    """A mean over cells with its 95% interval."""

    mean: float
    low: float
    high: float


SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)  # what a mean of such values cannot leave


def mean_interval(
    value_C: np.ndarray, sampling: Sampling, within: tuple[float, float] | None = None
) -> MeanInterval:
    """Mean of one value a cell, and its interval. `within`: what each value is between, such as `SHARE` or
    `CORRELATION`; the interval ends there. It holds the mean as often as before: no mean is beyond."""
    found = sampling.of(np.asarray(value_C, dtype=np.float64)[:, None], wider=True)
    ends = np.array([found.low[0], found.high[0]])
    low, high = ends if within is None else np.clip(ends, *within)
    return MeanInterval(float(found.mean[0]), float(low), float(high))
