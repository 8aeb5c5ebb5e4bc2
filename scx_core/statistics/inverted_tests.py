"""The ends of an interval that a permutation test itself gives: all means that it would not reject.

One group, or pairs: signs of x − θ are turned. |Σ s (x − θ)| reaches |Σ (x − θ)| where θ lies between the
mean of the turned cells and that of the others, so that each draw of signs gives the two means that it leaves
in (Hartigan 1969), and the interval ends where 5% of the draws leave off. Two groups: difference ± what 5% of
the dealings reach of Welch's |t|, times its error. The draws are those by which hypothesis_tests.py says
whether p is below 0.05, so that the interval leaves 0 out there and only there.
Legend: P draws, C cells, X columns, 1 kept for broadcasting.
"""

from __future__ import annotations

import numpy as np

DRAWS = 2000
TIE = 1e-6  # two sums of the same numbers in another order count as equal
LEAST = 1e-9  # square of an error, in units of a column's variance, below which it is not told from 0
ALPHA = 0.05
_PLACE = (
    int(np.ceil(ALPHA * (1 + DRAWS))) - 1
)  # so many draws as far out make p = (1 + n) / (1 + DRAWS) ≥ 0.05


def signs(n_cells: int, seed: int) -> np.ndarray:
    """Draws of a sign for each cell, [P, C]; the same for the same seed."""
    return np.random.default_rng([seed, 41]).integers(0, 2, (DRAWS, n_cells)) * 2.0 - 1.0


def dealings(n_cells: int, n_first: int, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Draws of which cells are the first group, 1.0 or 0.0, [P, C]."""
    return dealt(np.random.default_rng([seed, 43]), n_cells, n_first, draws)


def dealt(rng: np.random.Generator, n_cells: int, n_first: int, draws: int) -> np.ndarray:
    """`draws` choices of `n_first` of the cells, 1.0 where chosen, [P, C]."""
    key_PC, k = rng.random((draws, n_cells)), n_first - 1
    chosen_PC = key_PC <= np.partition(key_PC, k, axis=1)[:, k : k + 1]
    return chosen_PC.astype(float)


def turned_ends(value_CX: np.ndarray, sign_PC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of each column's mean by turned signs, [X] twice; infinite where so few cells cannot reject."""
    turned_CP = (sign_PC < 0).astype(float).T
    n_P = turned_CP.sum(0)
    rest_P, tie_X1 = len(value_CX) - n_P, TIE / 2 * np.abs(value_CX).sum(0)[:, None]
    turned_XP = value_CX.T @ turned_CP
    others_XP = value_CX.sum(0)[:, None] - turned_XP
    turned_XP /= np.maximum(n_P, 1.0)
    others_XP /= np.maximum(rest_P, 1.0)
    # A mean is surely in between once it is nearer than two sums that count as equal.
    slack_XP = tie_X1 / np.maximum(np.minimum(n_P, rest_P), 1.0)
    low_XP, high_XP = np.minimum(turned_XP, others_XP), np.maximum(turned_XP, others_XP, out=turned_XP)
    low_XP -= slack_XP
    high_XP += slack_XP
    none_P = (n_P == 0) | (rest_P == 0)
    low_XP[:, none_P], high_XP[:, none_P] = -np.inf, np.inf
    low_XP.partition(_PLACE - 1, axis=1)
    high_XP.partition(DRAWS - _PLACE, axis=1)
    return low_XP[:, _PLACE - 1].copy(), high_XP[:, DRAWS - _PLACE].copy()


def standardised(value_CX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean 0 and variance 1 (0 where a column is constant), and which are constant, [X]."""
    scale_X = value_CX.std(0)
    constant_X = scale_X <= 1e-12 * np.abs(value_CX).max(0, initial=0.0)
    z_CX = np.where(constant_X, 0.0, (value_CX - value_CX.mean(0)) / np.where(constant_X, 1.0, scale_X))
    return z_CX, constant_X


def farthest_t(value_CX: np.ndarray, first_PC: np.ndarray) -> np.ndarray:
    """Welch's |t| that 5% of the dealings reach, [X]."""
    z_CX, _ = standardised(value_CX)
    n, m = int(first_PC[0].sum()), int(len(z_CX) - first_PC[0].sum())
    square_CX, first_CP = z_CX**2, first_PC.T
    sum_XP, error_XP = z_CX.T @ first_CP, square_CX.T @ first_CP
    rest_XP = z_CX.sum(0)[:, None] - sum_XP
    gap_XP = sum_XP / n
    gap_XP -= rest_XP / m
    np.square(gap_XP, out=gap_XP)
    over_n, over_m = 1 / (n * max(1, n - 1)), 1 / (m * max(1, m - 1))
    error_XP *= over_n - over_m
    error_XP += square_CX.sum(0)[:, None] * over_m
    error_XP -= np.square(sum_XP, out=sum_XP) * (over_n / n)
    error_XP -= np.square(rest_XP, out=rest_XP) * (over_m / m)
    gap_XP /= np.maximum(error_XP, LEAST, out=error_XP)
    gap_XP.partition(DRAWS - _PLACE, axis=1)
    return np.asarray((np.sqrt(gap_XP[:, DRAWS - _PLACE]) + TIE) / (1 - TIE))
