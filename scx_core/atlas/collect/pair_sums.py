"""The same sums as `Sums` where bins × units would not fit: only pairs that occur are held.

Memory grows with the pairs of slot and unit that were ever active together, which a vocabulary of genes
bounds, and not with the cells.
Legend: N tokens, J bins of a token, E pairs, F units.
"""

from __future__ import annotations

import torch

from scx_core.atlas.collect.active import Active, Matrix
from scx_core.atlas.collect.sums import Bins

PENDING = 4_000_000  # pairs that wait until they are added up


class PairSums:
    """Sums of activations by (bin, unit), held as sorted keys bin · F + unit with their totals."""

    def __init__(self, n_units: int, device: torch.device) -> None:
        self.n_units = n_units
        self._keys = torch.zeros(0, dtype=torch.int64, device=device)
        self._totals = torch.zeros(0, dtype=torch.float32, device=device)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._n_waiting = 0

    def reserve(self, bins: int) -> None:
        """Bins appear by themselves."""

    def add(self, bins: Bins, active: Active) -> None:
        """Add what is active at every token to the token's J bins."""
        if isinstance(active, Matrix):
            active = active.pairs(torch.arange(len(active.row_N), device=active.row_N.device))
        key_EJ = bins.bin_NJ[active.token_E] * self.n_units + active.unit_E[:, None]
        value_EJ = active.value_E.float()[:, None].expand(key_EJ.shape)
        self._waiting.append((key_EJ.flatten(), value_EJ.flatten()))
        self._n_waiting += key_EJ.numel()
        if self._n_waiting > PENDING:
            self._add_up()

    def take(self, bins: torch.Tensor, units: slice) -> torch.Tensor:
        """The totals of some bins and units, dense [bins, units]."""
        self._add_up()
        first, stop, _ = units.indices(self.n_units)
        unit_E = self._keys % self.n_units
        inside_E = ((unit_E >= first) & (unit_E < stop)).nonzero()[:, 0]
        bin_E = self._keys[inside_E] // self.n_units
        wanted = bins.sort()
        place_E = torch.searchsorted(wanted.values, bin_E).clamp(max=max(len(bins) - 1, 0))
        here_E = wanted.values[place_E] == bin_E
        found = torch.zeros(len(bins), stop - first, dtype=torch.float32, device=self._keys.device)
        rows_E = wanted.indices[place_E[here_E]]
        found[rows_E, unit_E[inside_E][here_E] - first] = self._totals[inside_E][here_E]
        return found

    def _add_up(self) -> None:
        if not self._waiting:
            return
        keys = torch.cat([self._keys, *(key for key, _ in self._waiting)])
        values = torch.cat([self._totals, *(value for _, value in self._waiting)])
        self._waiting, self._n_waiting = [], 0
        self._keys, place = keys.unique(return_inverse=True)
        self._totals = values.new_zeros(len(self._keys)).index_add_(0, place, values)
