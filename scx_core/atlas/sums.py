"""Sums of activations by bin and unit, of fixed size whatever the number of cells.

Legend: N tokens, J bins of a token, F units, E active pairs (token, unit).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.transcoders.sparse import above

LOWEST, PER_OCTAVE, OCTAVES = -14, 4, 28  # histogram: from 2^-14 to 2^14 in quarters of an octave
N_HISTOGRAM = OCTAVES * PER_OCTAVE


class Pairs(NamedTuple):
    """Active pairs of a batch: token, unit and activation (> 0), [E] each."""

    token_E: torch.Tensor
    unit_E: torch.Tensor
    value_E: torch.Tensor


def active_pairs(z_NF: torch.Tensor) -> Pairs:
    """The entries that are not 0, in the order of tokens."""
    flat_E, value_E = above(z_NF, 0.0)
    token_E = flat_E // z_NF.shape[1]
    return Pairs(token_E, flat_E - token_E * z_NF.shape[1], value_E)


class Sums:
    """`total` [bins, F] of activations and `count` [bins] of tokens. Bins are added as they appear."""

    def __init__(self, n_units: int, bins: int, dtype: torch.dtype, device: torch.device) -> None:
        self.total_KF = torch.zeros(bins, n_units, dtype=dtype, device=device)

    def reserve(self, bins: int) -> None:
        """Make room for at least so many bins."""
        have, n_units = self.total_KF.shape
        if bins > have:
            more = self.total_KF.new_zeros(max(bins, 2 * have) - have, n_units)
            self.total_KF = torch.cat([self.total_KF, more])

    def add_pairs(self, bin_NJ: torch.Tensor, pairs: Pairs) -> None:
        """Add every active pair to the J bins of its token."""
        n_units = self.total_KF.shape[1]
        flat_EJ = bin_NJ[pairs.token_E] * n_units + pairs.unit_E[:, None]
        value_EJ = pairs.value_E.to(self.total_KF.dtype)[:, None].expand(flat_EJ.shape)
        self.total_KF.view(-1).index_add_(0, flat_EJ.flatten(), value_EJ.flatten())

    def add_dense(self, bin_NJ: torch.Tensor, z_NF: torch.Tensor) -> None:
        """Add the rows of z to the J bins of their tokens: one product with a sparse indicator matrix."""
        bins_K, place = bin_NJ.flatten().unique(return_inverse=True)
        token = torch.arange(len(z_NF), device=z_NF.device).repeat_interleave(bin_NJ.shape[1])
        ones = torch.ones(len(place), dtype=z_NF.dtype, device=z_NF.device)
        shape = (len(bins_K), len(z_NF))
        which_KN = torch.sparse_coo_tensor(torch.stack([place, token]), ones, shape, check_invariants=False)
        self.total_KF.index_add_(0, bins_K, (which_KN @ z_NF).to(self.total_KF.dtype))

    def take(self, bins: torch.Tensor, units: slice) -> torch.Tensor:
        """The totals of some bins and units, [bins, units]."""
        return self.total_KF[bins][:, units]


class Firing:
    """How often and how strongly each unit fires: tokens and cells by half [2, F], histogram [bins, F]."""

    def __init__(self, n_units: int, device: torch.device) -> None:
        self.tokens_2F = torch.zeros(2, n_units, dtype=torch.int64, device=device)
        self.cells_2F = torch.zeros_like(self.tokens_2F)
        self.histogram_KF = torch.zeros(N_HISTOGRAM, n_units, dtype=torch.int64, device=device)

    def add(self, fired_BF: torch.Tensor, half_B: torch.Tensor, pairs: Pairs) -> None:
        """Take in one batch: in how many tokens of each cell each unit fires, and the pairs that go into the
        histogram."""
        self.tokens_2F.index_add_(0, half_B, fired_BF)
        self.cells_2F.index_add_(0, half_B, (fired_BF > 0).long())
        flat_E = histogram_bin(pairs.value_E) * fired_BF.shape[1] + pairs.unit_E
        self.histogram_KF.view(-1).index_add_(0, flat_E, torch.ones_like(flat_E))


def fired_by_cell(
    z_NF: torch.Tensor, cell_N: torch.Tensor, n_cells: int, pairs: Pairs | None
) -> torch.Tensor:
    """In how many tokens of each cell each unit fires, int64 [B, F]; from `pairs` where all are known."""
    fired_BF = torch.zeros(n_cells, z_NF.shape[1], dtype=torch.int64, device=z_NF.device)
    if pairs is None:
        return fired_BF.index_add_(0, cell_N, (z_NF > 0).long())
    flat_E = cell_N[pairs.token_E] * z_NF.shape[1] + pairs.unit_E
    fired_BF.view(-1).index_add_(0, flat_E, torch.ones_like(flat_E))
    return fired_BF


def histogram_bin(value_E: torch.Tensor) -> torch.Tensor:
    """Bin of positive activations; what lies outside goes to the first and last one."""
    octave_E = value_E.double().log2() - LOWEST
    return (octave_E * PER_OCTAVE).floor().long().clamp(0, N_HISTOGRAM - 1)


def histogram_edge(number: float) -> float:
    """Lower edge of a bin; of k + ½ its middle."""
    return float(2.0 ** (LOWEST + number / PER_OCTAVE))
