"""All that is summed up of one layer of one unit source, batch by batch.

Legend: N counted tokens of a batch, B cells, F units, J bins of a token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch

from scx_core.atlas.collect.active import Active, Matrix, Pairs
from scx_core.atlas.collect.examples import Examples, Tokens
from scx_core.atlas.collect.kernels import cells_of_rows
from scx_core.atlas.collect.pair_sums import PairSums
from scx_core.atlas.collect.sums import Bins, Firing, Sums, counted
from scx_core.atlas.collect.token_slots import DATA, Layout
from scx_core.atlas.collect.units import UnitReader
from scx_core.atlas.config import AtlasConfig
from scx_core.training.ops.kernels import in_parts

# Of units that are active everywhere, a random share of the tokens goes into histogram and samples.
DENSE_SHARE = 1 / 16
N_DATA = len(DATA)
# A dense matrix of slots and units for every layer may take so many bytes.
DENSE_BYTES = 2**31
SLOTS_A_GENE = 4
LIGHT = 4  # a light tally may take so many times less


class Batch(NamedTuple):
    """The counted tokens of some cells, wherever the model is: bins of each token, bins that all tokens of
    a cell share [B, J], slots by data, the random number that decides about samples [N], the
    cell within the batch [N], and the half of each cell [B].

    Slots are numbered with half and data: slot · 6 + half · 3 + data; `real` without data: slot · 2 + half;
    `real_bins` are `bins` without those of the nulls.
    """

    bins: Bins
    bin_BJ: torch.Tensor
    slots: Bins
    real: Bins
    draw_N: torch.Tensor
    cell_N: torch.Tensor
    half_B: torch.Tensor
    tokens: Tokens
    real_bins: Bins | None = None


class LayerTally:
    """Sums, firing and examples of one layer. `bins` and `slots` hold sums of activations; of `n_layers`
    layers with so many units and genes that they would not fit, only the pairs that occur are held.

    A `light` one is of a baseline: it has no nulls and no examples, and `n_data` is 1."""

    def __init__(
        self,
        units: UnitReader,
        layout: Layout,
        cfg: AtlasConfig,
        device: torch.device,
        n_layers: int,
        n_genes: int,
        light: bool = False,
    ) -> None:
        self.light, self.n_data = light, 1 if light else N_DATA
        n, n_bins = units.n_units, 2 * self.n_data * SLOTS_A_GENE * n_genes
        self.bins = Sums(n, 2 * layout.n_bins, torch.float64, device)
        # Many small bins: a sum of thousands of terms is exact enough in float32.
        many = n_bins * n * n_layers * 4 > (DENSE_BYTES // LIGHT if light else DENSE_BYTES)
        self.slots = PairSums(n, device) if many else Sums(n, n_bins, torch.float32, device)
        self.firing = Firing(n, device)
        examples, samples = (0, 0) if light else (cfg.examples, cfg.samples)
        self.top = Examples(n, examples, cfg.before, cfg.after)
        self.samples = Examples(n, samples, cfg.before, cfg.after)

    def add(self, active: Active, batch: Batch, n_slots: int) -> None:
        """Take in the activations of a batch."""
        self.slots.reserve(2 * self.n_data * n_slots)
        own = batch.real_bins if self.light and batch.real_bins is not None else batch.bins
        self.bins.add(own, active)
        self.slots.add(batch.real if self.light else batch.slots, active)
        cells = pairs_by_cell(active, batch) if isinstance(active, Pairs) else matrix_by_cell(active, batch)
        self.bins.add_cells(batch.bin_BJ, cells.sum_BF)
        some, best = cells.some, cells.best
        self.firing.add(cells.fired_BF, cells.square_BF, batch.half_B, some)
        self.samples.add(batch.draw_N[some.token_E], some, active, batch.tokens, one_a_cell=False)
        self.top.add(best.value_E, best, active, batch.tokens, one_a_cell=True)


class ByCell(NamedTuple):
    """In how many tokens of each cell each unit fires, the sums of its activations there and of their
    squares, [B, F]; pairs that are a fair sample of all; pairs with the strongest of every cell for every
    unit."""

    fired_BF: torch.Tensor
    sum_BF: torch.Tensor
    square_BF: torch.Tensor
    some: Pairs
    best: Pairs


def pairs_by_cell(pairs: Pairs, batch: Batch) -> ByCell:
    """Of active pairs: all of them are the sample."""
    shape, cell_E = (len(batch.half_B), pairs.n_units), batch.cell_N[pairs.token_E]
    value_E = pairs.value_E.double()
    fired_BF = counted(cell_E, pairs.unit_E, shape)
    sum_BF, square_BF = (counted(cell_E, pairs.unit_E, shape, part) for part in (value_E, value_E.square()))
    return ByCell(fired_BF, sum_BF, square_BF, pairs, pairs)


def matrix_by_cell(active: Matrix, batch: Batch) -> ByCell:
    """Of a matrix: a random share of its tokens is the sample. Cells lie one after another."""
    n_cells, device = len(batch.half_B), batch.half_B.device
    counts_B = torch.bincount(batch.cell_N, minlength=n_cells)
    start_B1 = torch.cat([counts_B.new_zeros(1), counts_B.cumsum(0)])
    kinds = torch.int32, torch.float64, torch.float64, torch.int32, active.z_RF.dtype
    found = [torch.zeros(n_cells, active.n_units, dtype=kind, device=device) for kind in kinds]
    if device.type == "cpu":
        arrays = [part.numpy() for part in (*active, start_B1, *found)]
        in_parts(lambda first, last: cells_of_rows(first, last, *arrays), active.n_units)
    else:
        cells_with_torch(active, start_B1.tolist(), *found)
    fired_BF, sum_BF, square_BF, token_BF, value_BF = found
    cell_E, unit_E = (value_BF > 0).nonzero(as_tuple=True)
    found_E = token_BF[cell_E, unit_E].long(), unit_E, value_BF[cell_E, unit_E]
    best = Pairs(*found_E, len(batch.cell_N), active.n_units)
    some = active.pairs((batch.draw_N > 1 - DENSE_SHARE).nonzero()[:, 0])
    return ByCell(fired_BF.long(), sum_BF, square_BF, some, best)


def cells_with_torch(
    active: Matrix,
    starts: list[int],
    fired_BF: torch.Tensor,
    sum_BF: torch.Tensor,
    square_BF: torch.Tensor,
    token_BF: torch.Tensor,
    value_BF: torch.Tensor,
) -> None:
    """`loops.cells_of_rows` on any device."""
    for cell, (start, end) in enumerate(pairwise(starts)):
        z_NF = active.z_RF[active.row_N[start:end]].relu()
        fired_BF[cell], sum_BF[cell] = (z_NF > 0).sum(0), z_NF.sum(0, dtype=torch.float64)
        square_BF[cell] = z_NF.double().square().sum(0)
        if len(z_NF):
            value_BF[cell], token_F = z_NF.max(0)
            token_BF[cell] = token_F + start
