"""How often permuted labels reach Welch's t, in its two ways, against the t of each permutation by itself."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.statistics.hypothesis_tests import _reached, _reached_equal, _welch


def columns(rng: np.random.Generator, n: int) -> np.ndarray:
    """Standardised columns [n, X]: normal, sparse, with many ties, and two groups far apart."""
    value_CX = rng.normal(size=(n, 40))
    value_CX[:, 10:20] *= rng.random((n, 10)) < 0.3
    value_CX[:, 20:30] = np.round(value_CX[:, 20:30])
    value_CX[0] += 1.0  # no column without a variance
    value_CX[: n // 2, 30:] += 20
    return (value_CX - value_CX.mean(0)) / value_CX.std(0)


def welch(z_CX: np.ndarray, first_C: np.ndarray) -> np.ndarray:
    """|t| as books have it, with the least error that a column may have."""
    one_CX, two_CX = z_CX[first_C], z_CX[~first_C]
    square_X = one_CX.var(0, ddof=1) / len(one_CX) + two_CX.var(0, ddof=1) / len(two_CX)
    return np.abs(one_CX.mean(0) - two_CX.mean(0)) / np.sqrt(np.maximum(square_X, 1e-9))


@pytest.mark.parametrize("sizes", [(12, 12), (3, 3), (12, 7), (2, 9)])
def test_as_many_permutations_reach_t_as_by_themselves(sizes: tuple[int, int]) -> None:
    rng, n = np.random.default_rng(1), sum(sizes)
    z_CX = columns(rng, n)
    first_PC = np.array([rng.permutation(np.arange(n) < sizes[0]) for _ in range(60)])
    t_PX = np.array([welch(z_CX, one) for one in first_PC])
    own_X = _welch(first_PC[0], z_CX)
    assert np.allclose(own_X, t_PX[0], rtol=1e-9)
    bar_X = own_X * (1 - 1e-6) - 1e-6
    wanted_X = (t_PX >= bar_X).sum(0)
    assert 1 < wanted_X.mean() < 59
    ways = [_reached, _reached_equal] if sizes[0] == sizes[1] else [_reached]
    for reached in ways:
        assert reached(first_PC.astype(float), z_CX, bar_X).tolist() == wanted_X.tolist()
