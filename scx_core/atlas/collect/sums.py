"""Sums of activations by bin and unit, of fixed size whatever the number of cells.

On a CPU compiled loops add them up, on other devices torch's operations. The loops take the units from
`first` up to `last`, so that threads can share them out without sharing a sum.

Adding has two steps, so that memory that ends leaves nothing counted: `adding` asks for all memory that is
needed and returns what then adds, which asks for no more.
Legend: N tokens, B cells, J bins of a token, F units, E active pairs (token, unit).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from scx_core.atlas.collect.active import Active, Matrix, Pairs
from scx_core.runs.micro_batch import out_of_memory
from scx_core.training.ops.kernels import compiled, in_parts
from scx_core.training.ops.sparse import times_of

LOWEST, PER_OCTAVE, OCTAVES = -14, 4, 28  # histogram: from 2^-14 to 2^14 in quarters of an octave
N_HISTOGRAM = OCTAVES * PER_OCTAVE
Adding = Callable[[], object]


class Bins(NamedTuple):
    """The J bins of every token [N, J], and for each j the tokens' order by bin [N, J]."""

    bin_NJ: torch.Tensor
    order_NJ: torch.Tensor


def ordered(bin_NJ: torch.Tensor) -> Bins:
    """Bins with their order."""
    return Bins(bin_NJ, bin_NJ.argsort(dim=0, stable=True))


class Sums:
    """`total` [bins, F] of activations. Bins are added as they appear."""

    def __init__(self, n_units: int, bins: int, dtype: torch.dtype, device: torch.device) -> None:
        self.total_KF = torch.zeros(bins, n_units, dtype=dtype, device=device)

    def reserve(self, bins: int) -> None:
        """Make room for at least so many bins."""
        have, n_units = self.total_KF.shape
        if bins > have:
            more = self.total_KF.new_zeros(max(bins, 2 * have) - have, n_units)
            self.total_KF = torch.cat([self.total_KF, more])

    def adding(self, bins: Bins, active: Active) -> Adding:
        """To add what is active at every token to the token's J bins."""
        return _adding_to(self.total_KF, bins, active)

    def add(self, bins: Bins, active: Active) -> None:
        """Add it."""
        self.adding(bins, active)()

    def adding_cells(self, bin_BJ: torch.Tensor, sum_BF: torch.Tensor) -> Adding:
        """To add the sums of whole cells to the J bins of each cell."""
        return lambda: [self.total_KF.index_add_(0, bin_B, sum_BF) for bin_B in bin_BJ.T]

    def take(self, bins: torch.Tensor, units: slice) -> torch.Tensor:
        """The totals of some bins and units, [bins, units]."""
        return self.total_KF[:, units][bins]


def _adding_to(total_KF: torch.Tensor, bins: Bins, active: Active) -> Adding:
    """`Sums.adding` into these totals."""
    if total_KF.device.type != "cpu":
        return adding_with_torch(total_KF, bins.bin_NJ, active)
    loop = add_rows if isinstance(active, Matrix) else add_pairs
    own = active if isinstance(active, Matrix) else (active.start_N1, active.unit_E, active.value_E)
    arrays = [part.numpy() for part in (total_KF, *bins, *own)]
    return lambda: in_parts(lambda first, last: loop(first, last, *arrays), active.n_units)


def adding_with_torch(total_KF: torch.Tensor, bin_NJ: torch.Tensor, active: Active) -> Adding:
    """`Sums.adding` on any device: of pairs one by one, of a matrix by a product with a sparse indicator."""
    if isinstance(active, Pairs):
        flat_EJ = bin_NJ[active.token_E] * active.n_units + active.unit_E[:, None]
        value_EJ = active.value_E.to(total_KF.dtype)[:, None].expand(flat_EJ.shape)
        return partial(total_KF.view(-1).index_add_, 0, flat_EJ.flatten(), value_EJ.flatten())
    z_NF = active.z_RF[active.row_N].relu()
    bins_K, place = bin_NJ.flatten().unique(return_inverse=True)
    token = torch.arange(len(z_NF), device=z_NF.device).repeat_interleave(bin_NJ.shape[1])
    ones = torch.ones(len(place), dtype=z_NF.dtype, device=z_NF.device)
    shape = (len(bins_K), len(z_NF))
    which_KN = torch.sparse_coo_tensor(torch.stack([place, token]), ones, shape, check_invariants=False)
    return partial(total_KF.index_add_, 0, bins_K, (which_KN @ z_NF).to(total_KF.dtype))


class Firing:
    """How often and how strongly each unit fires: tokens, cells and sums of squared activations by half
    [2, F], histogram [bins, F]."""

    def __init__(self, n_units: int, device: torch.device) -> None:
        self.tokens_2F = torch.zeros(2, n_units, dtype=torch.int64, device=device)
        self.cells_2F = torch.zeros_like(self.tokens_2F)
        self.squares_2F = torch.zeros(2, n_units, dtype=torch.float64, device=device)
        self.histogram_KF = torch.zeros(N_HISTOGRAM, n_units, dtype=torch.int64, device=device)

    def adding(
        self, fired_BF: torch.Tensor, square_BF: torch.Tensor, half_B: torch.Tensor, pairs: Pairs
    ) -> Adding:
        """To take in one batch: in how many tokens of each cell each unit fires, the sum of its squared
        activations there, and the pairs that go into the histogram."""
        there_BF = (fired_BF > 0).long()
        times_KF = counted(histogram_bin(pairs.value_E), pairs.unit_E, self.histogram_KF.shape)

        def add() -> None:
            self.tokens_2F.index_add_(0, half_B, fired_BF)
            self.cells_2F.index_add_(0, half_B, there_BF)
            self.squares_2F.index_add_(0, half_B, square_BF)
            self.histogram_KF.add_(times_KF)

        return add


def counted(
    row_E: torch.Tensor,
    unit_E: torch.Tensor,
    shape: torch.Size | tuple[int, int],
    weight_E: torch.Tensor | None = None,
) -> torch.Tensor:
    """How many pairs there are of each row and unit, int64 of that shape; or the sums of their weights."""
    flat_E = row_E * shape[1] + unit_E
    return times_of(flat_E, shape[0] * shape[1], weight_E).view(shape)


def histogram_bin(value_E: torch.Tensor) -> torch.Tensor:
    """Bin of positive activations; what lies outside goes to the first and last one."""
    octave_E = value_E.double().log2() - LOWEST
    return (octave_E * PER_OCTAVE).floor().long().clamp(0, N_HISTOGRAM - 1)


def histogram_edge(number: float) -> float:
    """Lower edge of a bin; of k + ½ its middle."""
    return float(2.0 ** (LOWEST + number / PER_OCTAVE))


@compiled
def add_pairs(first, last, total_KF, bin_NJ, order_NJ, start_N1, unit_E, value_E) -> None:
    """Add every active pair to the bins of its token; the pairs of token n begin at `start_N1[n]`.
    `order_NJ` is the order of tokens, by bin: what was added to is then still at hand."""
    for j in range(bin_NJ.shape[1]):
        for i in range(len(bin_NJ)):
            n = order_NJ[i, j]
            total_F = total_KF[bin_NJ[n, j]]
            for e in range(start_N1[n], start_N1[n + 1]):
                if first <= unit_E[e] < last:
                    total_F[unit_E[e]] += value_E[e]


@compiled
def add_rows(first, last, total_KF, bin_NJ, order_NJ, z_RF, row_N) -> None:
    """Add the positive part of every token's row to the bins of the token, in the order of `order_NJ`."""
    for j in range(bin_NJ.shape[1]):
        for i in range(len(bin_NJ)):
            n = order_NJ[i, j]
            z_F, total_F = z_RF[row_N[n], first:last], total_KF[bin_NJ[n, j], first:last]
            for f in range(len(z_F)):
                total_F[f] += max(z_F[f], np.float32(0.0))


GROWTH = 4  # rows grow by at least a fourth of those there are


class RowSums:
    """Sums of activations of units that are active at every second token or so, such as raw neurons: a whole
    row [F] for each bin that occurs. Keys with totals (`SparseSums`) would take three times as much, and what
    waits to be added up the same once more. They grow with what occurs: where the device has no room for more
    rows, they move to main memory and stay there."""

    def __init__(self, n_units: int, device: torch.device) -> None:
        self._row_K = torch.zeros(0, dtype=torch.int64, device=device)  # of each bin; −1: it has none yet
        self._total_RF = torch.zeros(0, n_units, dtype=torch.float32, device=device)
        self._rows = 0

    def reserve(self, bins: int) -> None:
        """Bins get their rows when they appear."""
        if bins > len(self._row_K):
            more = self._row_K.new_full((bins - len(self._row_K),), -1)
            self._row_K = torch.cat([self._row_K, more])

    def adding(self, bins: Bins, active: Active) -> Adding:
        """To add what is active at every token to the token's J bins, which `reserve` has heard of."""
        device = self._row_K.device
        if bins.bin_NJ.device != device:  # moved before
            bins, active = Bins(*(part.to(device) for part in bins)), _moved(active, device)
        try:
            return self._adding(bins, active)
        except RuntimeError as error:
            if device.type == "cpu" or not out_of_memory(error):
                raise
        # Outside of the handler: until here the error held what had been asked for.
        _say_moved()
        self._row_K, self._total_RF = self._row_K.cpu(), self._total_RF.cpu()
        return self.adding(bins, active)

    def _adding(self, bins: Bins, active: Active) -> Adding:
        found_K = bins.bin_NJ.unique()
        fresh_K = found_K[self._row_K[found_K] < 0]
        row_K, total_RF, rows = self._row_K.clone(), self._total_RF, self._rows + len(fresh_K)
        row_K[fresh_K] = torch.arange(self._rows, rows, device=row_K.device)
        have, n_units = total_RF.shape
        if rows > have:
            more = total_RF.new_zeros(max(rows, have + have // GROWTH) - have, n_units)
            total_RF = torch.cat([total_RF, more])
        add = _adding_to(total_RF, Bins(row_K[bins.bin_NJ], bins.order_NJ), active)

        def add_all() -> None:
            self._row_K, self._total_RF, self._rows = row_K, total_RF, rows
            add()

        return add_all

    def take(self, bins: torch.Tensor, units: slice) -> torch.Tensor:
        """The totals of some bins and units, dense [bins, units]."""
        self.reserve(int(bins.max()) + 1 if len(bins) else 0)
        row_K = self._row_K[bins.to(self._row_K.device)]
        some_RF = self._total_RF[:, units]
        found = some_RF.new_zeros(len(row_K), some_RF.shape[1])
        found[row_K >= 0] = some_RF[row_K[row_K >= 0]]
        return found


def _moved(active: Active, device: torch.device) -> Active:
    """The same activations there."""
    if isinstance(active, Matrix):
        return Matrix(*(part.to(device) for part in active))
    names = ("token_E", "unit_E", "value_E")
    return replace(active, **{name: getattr(active, name).to(device) for name in names})


def _say_moved() -> None:
    print(
        "out of memory: sums by gene token are held in main memory from here on", file=sys.stderr, flush=True
    )


PENDING = 4_000_000  # pairs that wait until they are added up


class SparseSums:
    """Sums of activations by (bin, unit), held as sorted keys bin · F + unit with their totals. They grow
    with what occurs: where the device has no room to add them up, they move to main memory and stay there."""

    def __init__(self, n_units: int, device: torch.device) -> None:
        self.n_units = n_units
        self._keys = torch.zeros(0, dtype=torch.int64, device=device)
        self._totals = torch.zeros(0, dtype=torch.float32, device=device)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def reserve(self, bins: int) -> None:
        """Bins appear by themselves."""

    def adding(self, bins: Bins, active: Active) -> Adding:
        """To add what is active at every token to the token's J bins."""
        if sum(len(key) for key, _ in self._waiting) > PENDING:
            self._add_up()
        if isinstance(active, Matrix):
            active = active.pairs(torch.arange(len(active.row_N), device=active.row_N.device))
        key_EJ = bins.bin_NJ[active.token_E] * self.n_units + active.unit_E[:, None]
        value_EJ = active.value_E.float()[:, None].expand(key_EJ.shape)
        found = key_EJ.flatten().to(self._keys.device), value_EJ.flatten().to(self._keys.device)
        return lambda: self._waiting.append(found)

    def take(self, bins: torch.Tensor, units: slice) -> torch.Tensor:
        """The totals of some bins and units, dense [bins, units]."""
        self._add_up()
        bins = bins.to(self._keys.device)
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
        """In the order in which they came, so that it makes no difference when, and where, it is done."""
        if not self._waiting:
            return
        try:
            self._keys, self._totals = self._added_up()
        except RuntimeError as error:
            if self._keys.device.type == "cpu" or not out_of_memory(error):
                raise
        else:
            self._waiting = []
            return
        # Outside of the handler: until here the error held what had been asked for.
        _say_moved()
        self._keys, self._totals = self._keys.cpu(), self._totals.cpu()
        self._waiting = [(key.cpu(), value.cpu()) for key, value in self._waiting]
        self._add_up()

    def _added_up(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys = torch.cat([self._keys, *(key for key, _ in self._waiting)])
        values = torch.cat([self._totals, *(value for _, value in self._waiting)])
        keys, place = keys.unique(return_inverse=True)
        return keys, values.new_zeros(len(keys)).index_add_(0, place, values)
