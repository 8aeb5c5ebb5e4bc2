"""All that is summed up of one layer of one unit source, batch by batch.

Legend: N counted tokens of a batch, B cells, F units, J bins of a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.examples import Examples, Tokens
from scx_core.atlas.pair_sums import PairSums
from scx_core.atlas.places import DATA, Layout
from scx_core.atlas.sums import Firing, Pairs, Sums, active_pairs, fired_by_cell
from scx_core.atlas.units import UnitSource

# Of units that are active everywhere, a random share of the tokens goes into histogram and samples.
DENSE_SHARE = 1 / 16
N_DATA = len(DATA)
# A dense matrix of slots and units for every layer may take so many bytes.
DENSE_BYTES = 2**31
SLOTS_A_GENE = 4


def too_many(units: UnitSource, n_layers: int, n_genes: int) -> bool:
    """Whether sums by slot and unit would not fit as dense matrices."""
    return 2 * N_DATA * SLOTS_A_GENE * n_genes * units.n_units * n_layers * 4 > DENSE_BYTES


class Batch(NamedTuple):
    """The counted tokens of some cells, wherever the model is: bins [N, J], slots [N, data], the random
    number that decides about samples [N], the cell within the batch [N], and the half of each cell [B].

    Slots are numbered with half and data: slot · 6 + half · 3 + data.
    """

    bin_NJ: torch.Tensor
    slot_NJ: torch.Tensor
    draw_N: torch.Tensor
    cell_N: torch.Tensor
    half_B: torch.Tensor
    tokens: Tokens


class LayerTally:
    """Sums, firing and examples of one layer. `bins` and `slots` hold sums of activations; with `many` slots
    and units only the pairs that occur are held."""

    def __init__(
        self, units: UnitSource, layout: Layout, cfg: AtlasConfig, device: torch.device, many: bool = False
    ) -> None:
        n = units.n_units
        self.dense = units.dense
        self.bins = Sums(n, 2 * layout.n_bins, torch.float64, device)
        # Many small bins: a sum of thousands of terms is exact enough in float32.
        self.slots: Sums | PairSums = (
            PairSums(n, device) if many else Sums(n, 2 * N_DATA * 512, torch.float32, device)
        )
        self.firing = Firing(n, device)
        self.top = Examples(n, cfg.examples, cfg.before, cfg.after, device)
        self.samples = Examples(n, cfg.samples, cfg.before, cfg.after, device)

    def add(self, z_NF: torch.Tensor, batch: Batch, n_slots: int) -> None:
        """Take in the activations of a batch."""
        self.slots.reserve(2 * N_DATA * n_slots)
        if self.dense:
            self._add_dense(z_NF, batch)
        else:
            self._add_sparse(z_NF, batch)

    def _add_sparse(self, z_NF: torch.Tensor, batch: Batch) -> None:
        pairs = active_pairs(z_NF)
        self.bins.add_pairs(batch.bin_NJ, pairs)
        self.slots.add_pairs(batch.slot_NJ, pairs)
        self.firing.add(fired_by_cell(z_NF, batch.cell_N, len(batch.half_B), pairs), batch.half_B, pairs)
        self.top.add(pairs.value_E.double(), pairs, z_NF, batch.tokens, one_a_cell=True)
        self.samples.add(batch.draw_N[pairs.token_E], pairs, z_NF, batch.tokens, one_a_cell=False)

    def _add_dense(self, z_NF: torch.Tensor, batch: Batch) -> None:
        self.bins.add_dense(batch.bin_NJ, z_NF)
        self.slots.add_dense(batch.slot_NJ, z_NF)
        drawn_N = (batch.draw_N > 1 - DENSE_SHARE).nonzero()[:, 0]
        some = active_pairs(z_NF[drawn_N])
        some = some._replace(token_E=drawn_N[some.token_E])
        fired_BF = fired_by_cell(z_NF, batch.cell_N, len(batch.half_B), None)
        self.firing.add(fired_BF, batch.half_B, some)
        self.samples.add(batch.draw_N[some.token_E], some, z_NF, batch.tokens, one_a_cell=False)
        best = strongest_of_cells(z_NF, batch.cell_N, len(batch.half_B))
        self.top.add(best.value_E.double(), best, z_NF, batch.tokens, one_a_cell=False)


def strongest_of_cells(z_NF: torch.Tensor, cell_N: torch.Tensor, n_cells: int) -> Pairs:
    """The strongest token of every cell for every unit; cells lie one after another."""
    ends = torch.bincount(cell_N, minlength=n_cells).cumsum(0).tolist()
    found = [z_NF[start:end].max(0) for start, end in zip([0, *ends], ends, strict=False)]
    token_BF = torch.stack([top.indices + start for start, top in zip([0, *ends], found, strict=False)])
    value_E = torch.stack([top.values for top in found]).flatten()
    unit_E = torch.arange(z_NF.shape[1], device=z_NF.device).repeat(n_cells)
    here = value_E > 0
    return Pairs(token_BF.flatten()[here], unit_E[here], value_E[here])
