"""What is done another way on a card, so that nobody waits for it, gives the numbers of the processor."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import fake_device
from scx_core.atlas.collect.active import Matrix, pairs_above
from scx_core.training.ops.sparse import (
    first_true,
    nth_largest,
    pattern_of,
    select_above,
    select_batch,
    select_tokens,
    times_of,
)


@pytest.fixture
def z_NF():
    return torch.randn(40, 24, generator=torch.Generator().manual_seed(0))


def both(job, *tensors):
    """The result on the processor and on the fake card, both here."""
    with fake_device.gpu(Path(__file__).parents[2], strict=True):
        there = job(*(t.cuda() for t in tensors))
        there = [t.cpu() if isinstance(t, torch.Tensor) else t for t in there]
    return list(job(*tensors)), there


def flat(chosen):
    return [*chosen.pattern, torch.as_tensor(chosen.threshold), chosen.value_N]


@pytest.mark.parametrize(
    "job",
    [
        lambda z: flat(select_batch(z, 90)),
        lambda z: flat(select_batch(z, 90, 0.7 * z.max())),
        lambda z: flat(select_batch(z, 10_000)),
        lambda z: flat(select_tokens(z, 5)),
        lambda z: flat(select_tokens(z - 1.0, 9)),
        lambda z: flat(select_above(z, z[3, 4].abs())),
        lambda z: [nth_largest(z.flatten(), 17) + 0 * z.sum()],
        lambda z: pattern_of((z > 1).flatten().nonzero()[:, 0], *z.shape),
        lambda z: [times_of((z * 3).long().abs().flatten(), 20)],
        lambda z: [times_of((z * 3).long().abs().flatten(), 20, z.double().flatten())],
        lambda z: [first_true(z[0] > 0, int((z[0] > 0).sum()))],
    ],
)
def test_selections_and_counts(z_NF, job):
    for here, there in zip(*both(job, z_NF), strict=True):
        torch.testing.assert_close(there.to(here.dtype), here)


def test_values_around_examples(z_NF):
    near_CW = np.array([[-1, 0, 1], [5, 6, 7], [38, 39, -1]])
    unit_C, row_N = np.array([0, 3, 23]), torch.arange(39, -1, -1)
    for of in (lambda z, row: pairs_above(z, 0.0), Matrix):
        here, there = both(lambda z, row, of=of: [of(z, row).around(near_CW, unit_C)], z_NF, row_N)
        np.testing.assert_array_equal(*here, *there)
