"""Sums of active pairs, of matrices, and of pairs that are held sparsely are the same as a plain loop's."""

import pytest
import torch

from scx_core.atlas import pair_sums
from scx_core.atlas.pair_sums import PairSums
from scx_core.atlas.sums import Sums, active_pairs, histogram_bin, histogram_edge

N_BINS, N_UNITS = 12, 7


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    found = []
    for n in (5, 9, 3):
        z_NF = torch.rand(n, N_UNITS, generator=generator).relu() - 0.5
        found.append((torch.randint(0, N_BINS, (n, 3), generator=generator), z_NF.relu()))
    return found


def plain(batches):
    total = torch.zeros(N_BINS, N_UNITS)
    for bin_NJ, z_NF in batches:
        for n, j in torch.cartesian_prod(torch.arange(len(z_NF)), torch.arange(3)).tolist():
            total[bin_NJ[n, j]] += z_NF[n]
    return total


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["matrix", "pairs"])
def test_sums(batches, kind, dense, monkeypatch):
    monkeypatch.setattr(pair_sums, "PENDING", 10)
    cpu = torch.device("cpu")
    sums = Sums(N_UNITS, 1, torch.float32, cpu) if kind == "matrix" else PairSums(N_UNITS, cpu)
    sums.reserve(N_BINS)
    for bin_NJ, z_NF in batches:
        if dense:
            sums.add_dense(bin_NJ, z_NF)
        else:
            sums.add_pairs(bin_NJ, active_pairs(z_NF))
    bins = torch.tensor([7, 0, 3])
    torch.testing.assert_close(sums.take(bins, slice(None)), plain(batches)[bins])
    torch.testing.assert_close(sums.take(bins, slice(2, 5)), plain(batches)[bins, 2:5])


def test_a_value_lies_in_its_bin():
    values = torch.tensor([0.01, 0.5, 1.0, 1.3, 700.0])
    for value, number in zip(values.tolist(), histogram_bin(values).tolist(), strict=True):
        assert histogram_edge(number) <= value * (1 + 1e-6) < histogram_edge(number + 1) * (1 + 1e-5)
