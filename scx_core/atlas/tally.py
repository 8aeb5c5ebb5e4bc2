"""All that is summed up of one layer of one unit source, batch by batch.

Legend: N counted tokens of a batch, B cells, F units, J bins of a token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch

from scx_core.atlas.active import Active, Matrix, Pairs
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.examples import Examples, Tokens
from scx_core.atlas.loops import cells_of_rows
from scx_core.atlas.pair_sums import PairSums
from scx_core.atlas.places import DATA, Layout
from scx_core.atlas.sums import Bins, Firing, Sums, counted
from scx_core.atlas.units import UnitSource
from scx_core.transcoders.kernels import in_parts

# Of units that are active everywhere, a random share of the tokens goes into histogram and samples.
DENSE_SHARE = 1 / 16
N_DATA = len(DATA)
# A dense matrix of slots and units for every layer may take so many bytes.
DENSE_BYTES = 2**31
SLOTS_A_GENE = 4


class Batch(NamedTuple):
    """The counted tokens of some cells, wherever the model is: bins of each token, bins that all tokens of
    a cell share [B, J], slots by data, the random number that decides about samples [N], the
    cell within the batch [N], and the half of each cell [B].

    Slots are numbered with half and data: slot · 6 + half · 3 + data.
    """

    bins: Bins
    bin_BJ: torch.Tensor
    slots: Bins
    draw_N: torch.Tensor
    cell_N: torch.Tensor
    half_B: torch.Tensor
    tokens: Tokens


class LayerTally:
    """Sums, firing and examples of one layer. `bins` and `slots` hold sums of activations; of `n_layers`
    layers with so many units and genes that they would not fit, only the pairs that occur are held."""

    def __init__(
        self,
        units: UnitSource,
        layout: Layout,
        cfg: AtlasConfig,
        device: torch.device,
        n_layers: int,
        n_genes: int,
    ) -> None:
        n, n_bins = units.n_units, 2 * N_DATA * SLOTS_A_GENE * n_genes
        self.bins = Sums(n, 2 * layout.n_bins, torch.float64, device)
        # Many small bins: a sum of thousands of terms is exact enough in float32.
        many = n_bins * n * n_layers * 4 > DENSE_BYTES
        self.slots = PairSums(n, device) if many else Sums(n, n_bins, torch.float32, device)
        self.firing = Firing(n, device)
        self.top = Examples(n, cfg.examples, cfg.before, cfg.after)
        self.samples = Examples(n, cfg.samples, cfg.before, cfg.after)

    def add(self, active: Active, batch: Batch, n_slots: int) -> None:
        """Take in the activations of a batch."""
        self.slots.reserve(2 * N_DATA * n_slots)
        self.bins.add(batch.bins, active)
        self.slots.add(batch.slots, active)
        cells = pairs_by_cell(active, batch) if isinstance(active, Pairs) else matrix_by_cell(active, batch)
        self.bins.add_cells(batch.bin_BJ, cells.sum_BF)
        some, best = cells.some, cells.best
        self.firing.add(cells.fired_BF, batch.half_B, some)
        self.samples.add(batch.draw_N[some.token_E], some, active, batch.tokens, one_a_cell=False)
        self.top.add(best.value_E, best, active, batch.tokens, one_a_cell=True)


class ByCell(NamedTuple):
    """In how many tokens of each cell each unit fires and the sum of its activations there, [B, F]; pairs
    that are a fair sample of all; pairs with the strongest of every cell for every unit."""

    fired_BF: torch.Tensor
    sum_BF: torch.Tensor
    some: Pairs
    best: Pairs


def pairs_by_cell(pairs: Pairs, batch: Batch) -> ByCell:
    """Of active pairs: all of them are the sample."""
    shape, cell_E = (len(batch.half_B), pairs.n_units), batch.cell_N[pairs.token_E]
    fired_BF = counted(cell_E, pairs.unit_E, shape)
    return ByCell(fired_BF, counted(cell_E, pairs.unit_E, shape, pairs.value_E.double()), pairs, pairs)


def matrix_by_cell(active: Matrix, batch: Batch) -> ByCell:
    """Of a matrix: a random share of its tokens is the sample. Cells lie one after another."""
    n_cells, device = len(batch.half_B), batch.half_B.device
    counts_B = torch.bincount(batch.cell_N, minlength=n_cells)
    start_B1 = torch.cat([counts_B.new_zeros(1), counts_B.cumsum(0)])
    kinds = torch.int32, torch.float64, torch.int32, active.z_RF.dtype
    found = [torch.zeros(n_cells, active.n_units, dtype=kind, device=device) for kind in kinds]
    if device.type == "cpu":
        arrays = [part.numpy() for part in (*active, start_B1, *found)]
        in_parts(lambda first, last: cells_of_rows(first, last, *arrays), active.n_units)
    else:
        cells_with_torch(active, start_B1.tolist(), *found)
    fired_BF, sum_BF, token_BF, value_BF = found
    cell_E, unit_E = (value_BF > 0).nonzero(as_tuple=True)
    found_E = token_BF[cell_E, unit_E].long(), unit_E, value_BF[cell_E, unit_E]
    best = Pairs(*found_E, len(batch.cell_N), active.n_units)
    some = active.pairs((batch.draw_N > 1 - DENSE_SHARE).nonzero()[:, 0])
    return ByCell(fired_BF.long(), sum_BF, some, best)


def cells_with_torch(
    active: Matrix,
    starts: list[int],
    fired_BF: torch.Tensor,
    sum_BF: torch.Tensor,
    token_BF: torch.Tensor,
    value_BF: torch.Tensor,
) -> None:
    """`loops.cells_of_rows` on any device."""
    for cell, (start, end) in enumerate(pairwise(starts)):
        z_NF = active.z_RF[active.row_N[start:end]].relu()
        fired_BF[cell], sum_BF[cell] = (z_NF > 0).sum(0), z_NF.sum(0, dtype=torch.float64)
        if len(z_NF):
            value_BF[cell], token_F = z_NF.max(0)
            token_BF[cell] = token_F + start
