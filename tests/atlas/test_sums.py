"""Sums of active pairs, of matrices, and of pairs that are held sparsely are the same as a plain loop's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scx_core.atlas.collect import sums as sums_module
from scx_core.atlas.collect.active import Matrix, pairs_above
from scx_core.atlas.collect.sums import (
    RowSums,
    SparseSums,
    Sums,
    adding_with_torch,
    histogram_bin,
    histogram_edge,
    ordered,
)
from scx_core.atlas.collect.tally import (
    Examples,
    TokenBatch,
    Tokens,
    cells_with_torch,
    matrix_by_cell,
    pairs_by_cell,
)

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


def as_matrix(z_NF):
    """With a row of padding in front of every row, and values below 0 where nothing is active."""
    z_RF = torch.full((2 * len(z_NF), z_NF.shape[1]), 9.0)
    z_RF[1::2] = torch.where(z_NF > 0, z_NF, -1.0)
    return Matrix(z_RF, torch.arange(len(z_NF)) * 2 + 1)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["loops", "torch", "pairs", "rows"])
def test_sums(batches, kind, dense, monkeypatch):
    monkeypatch.setattr(sums_module, "PENDING", 10)
    cpu = torch.device("cpu")
    made = {"pairs": lambda: SparseSums(N_UNITS, cpu), "rows": lambda: RowSums(N_UNITS, cpu)}
    sums = made.get(kind, lambda: Sums(N_UNITS, 1, torch.float32, cpu))()
    sums.reserve(N_BINS)
    for bin_NJ, z_NF in batches:
        active = as_matrix(z_NF) if dense else pairs_above(z_NF, 0.0)
        if kind == "torch":
            adding_with_torch(sums.total_KF, bin_NJ, active)()
        else:
            sums.adding(ordered(bin_NJ), active)()
    bins = torch.tensor([7, 0, 3])
    torch.testing.assert_close(sums.take(bins, slice(None)), plain(batches)[bins])
    torch.testing.assert_close(sums.take(bins, slice(2, 5)), plain(batches)[bins, 2:5])


def test_neurons_take_no_more_than_a_number_a_bin_that_occurs(monkeypatch):
    """Many neurons, of more bins than fit: what is held of a batch, in bytes, before it is asked for."""
    from scx_core.atlas.collect import tally as tally_module
    from scx_core.atlas.collect.token_slots import BinLayout
    from scx_core.atlas.config import AtlasConfig

    monkeypatch.setattr(tally_module, "DENSE_BYTES", 0)

    class Neurons:
        n_units, wants_neurons = 256, True

    layout = BinLayout(*(1 for _ in BinLayout._fields))
    held = tally_module.LayerTally(Neurons, layout, AtlasConfig(), torch.device("cpu"), 24, 100).slots
    generator = torch.Generator().manual_seed(0)
    z_NF = torch.randn(300, 256, generator=generator)
    bin_NJ = torch.randint(0, 40, (300, 3), generator=generator) * 50
    held.reserve(2000)
    held.adding(ordered(bin_NJ), Matrix(z_NF, torch.arange(300)))()
    parts = [*vars(held).values(), *(part for pair in getattr(held, "_waiting", []) for part in pair)]
    taken = sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))
    assert taken <= 40 * 256 * 4 + 2000 * 8
    wanted = torch.zeros(2000, 256).index_add_(0, bin_NJ.flatten(), z_NF.relu().repeat_interleave(3, 0))
    torch.testing.assert_close(held.take(torch.arange(2000), slice(None)), wanted)


def test_activations_are_found_by_token_and_unit(batches):
    unit_C = np.arange(N_UNITS)
    for _, z_NF in batches:
        near_CW = np.tile(np.arange(-1, len(z_NF)), (N_UNITS, 1))
        wanted = np.pad(z_NF.T.numpy(), ((0, 0), (1, 0)))
        for active in (pairs_above(z_NF, 0.0), as_matrix(z_NF)):
            assert np.array_equal(active.around(near_CW, unit_C), wanted)
    nothing = pairs_above(torch.zeros(2, 3), 0.0)
    assert nothing.around(np.array([[1]]), np.array([2])).tolist() == [[0.0]]


def in_cells(sizes):
    """A batch of cells with so many tokens, of which only what is asked for by cell is filled in."""
    n = sum(sizes)
    cell_N = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    steps = torch.cat([torch.arange(size) for size in sizes])
    tokens = Tokens(cell_N + 100, steps, torch.arange(n) + 50, torch.arange(n))
    none = torch.zeros(n, 0, dtype=torch.int64)
    return TokenBatch(
        ordered(none),
        none,
        ordered(none),
        ordered(none),
        torch.ones(n),
        cell_N,
        torch.zeros(len(sizes), dtype=torch.int64),
        tokens,
        ordered(none),
    )


def test_what_a_cell_does(batches):
    _, z_NF = batches[1]
    batch, matrix = in_cells([4, 0, 5]), as_matrix(z_NF)
    parts = z_NF[:4], z_NF[4:4], z_NF[4:]
    fired_BF = torch.stack([(part > 0).sum(0) for part in parts])
    sum_BF = torch.stack([part.sum(0) for part in parts]).double()
    square_BF = torch.stack([part.double().square().sum(0) for part in parts])
    for found in (pairs_by_cell(pairs_above(z_NF, 0.0), batch), matrix_by_cell(matrix, batch)):
        assert torch.equal(found.fired_BF, fired_BF)
        torch.testing.assert_close(found.sum_BF, sum_BF)
        torch.testing.assert_close(found.square_BF, square_BF)
    best = matrix_by_cell(matrix, batch).best
    wanted = [(part.max(0), start) for part, start in ((parts[0], 0), (parts[2], 4))]
    values = torch.cat([top.values for top, _ in wanted])
    tokens = torch.cat([top.indices + start for top, start in wanted])
    assert torch.equal(best.value_E, values[values > 0]) and torch.equal(best.token_E, tokens[values > 0])
    kinds = (torch.int32, torch.float64, torch.float64, torch.int32, torch.float32)
    ways = [torch.zeros(3, N_UNITS, dtype=kind) for kind in kinds]
    cells_with_torch(matrix, [0, 4, 4, 9], *ways)
    assert torch.equal(ways[0].long(), fired_BF)
    torch.testing.assert_close(ways[1], sum_BF)
    torch.testing.assert_close(ways[2], square_BF)
    assert torch.equal(ways[4][values.new_tensor([0, 2]).long()].flatten(), values)


@pytest.mark.parametrize("one_a_cell", [False, True])
def test_examples_are_the_strongest_with_their_context(one_a_cell):
    """Against sorting everything; equal values, of which the first stays, and more than one batch."""
    generator = torch.Generator().manual_seed(3)
    heap, seen = Examples(N_UNITS, 3, before=2, after=1), []
    for _ in range(3):
        z_NF = (torch.randint(0, 9, (9, N_UNITS), generator=generator) - 4).relu().float()
        batch, pairs = in_cells([4, 5]), pairs_above(z_NF, 0.0)
        tokens = replace(batch.tokens, row_N=batch.tokens.row_N + 10 * len(seen))
        heap.adding(pairs.value_E, pairs, pairs, tokens, one_a_cell)()
        seen.append((z_NF, tokens))
    for unit in range(N_UNITS):
        every = [(-float(z_NF[n, unit]), batch, n) for batch, (z_NF, _) in enumerate(seen) for n in range(9)]
        every = sorted(one for one in every if one[0] < 0)
        if one_a_cell:
            every = list({(batch, n >= 4): (key, batch, n) for key, batch, n in reversed(every)}.values())
            every.sort()
        for place, (key, number, n) in enumerate(every[:3]):
            z_NF, tokens = seen[number]
            assert heap.key_Fk[unit, place] == heap.held("value")[unit, place] == -key
            assert heap.held("row")[unit, place] == tokens.row_N[n]
            near = range(n - 2, n + 2)
            same = [0 <= t < 9 and tokens.row_N[t] == tokens.row_N[n] for t in near]
            ids = [int(tokens.id_N[t]) if here else -1 for t, here in zip(near, same, strict=True)]
            values = [float(z_NF[t, unit]) if here else 0.0 for t, here in zip(near, same, strict=True)]
            assert heap.held("ids")[unit, place].tolist() == ids
            assert heap.held("values")[unit, place].tolist() == values
        assert np.isneginf(heap.key_Fk[unit, len(every) :]).all()


def test_a_value_lies_in_its_bin():
    values = torch.tensor([0.01, 0.5, 1.0, 1.3, 700.0])
    for value, number in zip(values.tolist(), histogram_bin(values).tolist(), strict=True):
        assert histogram_edge(number) <= value * (1 + 1e-6) < histogram_edge(number + 1) * (1 + 1e-5)
