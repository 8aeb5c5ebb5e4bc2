"""All that is summed up of one layer of one unit source, batch by batch; the strongest examples of each unit.

Legend: N counted tokens of a batch, R padded rows, B cells, F units, J bins of a token, E active pairs
(token, unit), k examples, C changed examples, W tokens of context.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from scx_core.atlas.collect.active import Active, Matrix, Pairs
from scx_core.atlas.collect.sums import Adding, Bins, Firing, RowSums, SparseSums, Sums, counted
from scx_core.atlas.collect.token_slots import DATA, BinLayout
from scx_core.atlas.collect.units import UnitReader
from scx_core.atlas.config import AtlasConfig
from scx_core.training.ops.kernels import compiled, in_parts

# Of units that are active everywhere, a random share of the tokens goes into histogram and samples.
DENSE_SHARE = 1 / 16
N_DATA = len(DATA)
# A dense matrix of slots and units for every layer may take so many bytes.
DENSE_BYTES = 2**31
SLOTS_A_GENE = 4
LIGHT = 4  # a light tally may take so many times less
LEAST_NEURONS = 64  # of a layer, however many genes there are


def neurons_that_fit(n_genes: int, n_layers: int) -> int:
    """How many raw neurons of a layer a dense matrix of slots has room for, with so many genes in the texts:
    of them whole rows are held (`RowSums`)."""
    return max(LEAST_NEURONS, DENSE_BYTES // (4 * 2 * N_DATA * SLOTS_A_GENE * n_genes * n_layers))


class TokenBatch(NamedTuple):
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
    real_bins: Bins


class LayerTally:
    """Sums, firing and examples of one layer. `bins` and `slots` hold sums of activations; of `n_layers`
    layers with so many units and genes that they would not fit, only the pairs that occur are held, and
    of neurons the bins that occur.

    A `light` one is of a baseline: it has no nulls and no examples, and `n_data` is 1."""

    def __init__(
        self,
        units: UnitReader,
        layout: BinLayout,
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
        self.slots: Sums | RowSums | SparseSums
        if not many:
            self.slots = Sums(n, n_bins, torch.float32, device)
        else:  # neurons are active at every second token or so, features and directions at few
            self.slots = RowSums(n, device) if units.wants_neurons else SparseSums(n, device)
        self.firing = Firing(n, device)
        examples, samples = (0, 0) if light else (cfg.examples, cfg.samples)
        self.top = Examples(n, examples, cfg.before, cfg.after)
        self.samples = Examples(n, samples, cfg.before, cfg.after)

    def add(self, active: Active, batch: TokenBatch, n_slots: int) -> None:
        """Take in the activations of a batch: first all that asks for memory, then the sums, so that memory
        that ends leaves nothing counted, and cells that come in parts make the same sums."""
        self.slots.reserve(2 * self.n_data * n_slots)
        cells = pairs_by_cell(active, batch) if isinstance(active, Pairs) else matrix_by_cell(active, batch)
        some, best = cells.some, cells.best
        ready = [
            self.bins.adding(batch.real_bins if self.light else batch.bins, active),
            self.slots.adding(batch.real if self.light else batch.slots, active),
            self.bins.adding_cells(batch.bin_BJ, cells.sum_BF),
            self.firing.adding(cells.fired_BF, cells.square_BF, batch.half_B, some),
            self.samples.adding(batch.draw_N[some.token_E], some, active, batch.tokens, one_a_cell=False),
            self.top.adding(best.value_E, best, active, batch.tokens, one_a_cell=True),
        ]
        for add in ready:
            add()


class ByCell(NamedTuple):
    """In how many tokens of each cell each unit fires, the sums of its activations there and of their
    squares, [B, F]; pairs that are a fair sample of all; pairs with the strongest of every cell for every
    unit."""

    fired_BF: torch.Tensor
    sum_BF: torch.Tensor
    square_BF: torch.Tensor
    some: Pairs
    best: Pairs


def pairs_by_cell(pairs: Pairs, batch: TokenBatch) -> ByCell:
    """Of active pairs: all of them are the sample."""
    shape, cell_E = (len(batch.half_B), pairs.n_units), batch.cell_N[pairs.token_E]
    value_E = pairs.value_E.double()
    fired_BF = counted(cell_E, pairs.unit_E, shape)
    sum_BF, square_BF = (counted(cell_E, pairs.unit_E, shape, part) for part in (value_E, value_E.square()))
    return ByCell(fired_BF, sum_BF, square_BF, pairs, pairs)


def matrix_by_cell(active: Matrix, batch: TokenBatch) -> ByCell:
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


@compiled
def cells_of_rows(
    first, last, z_RF, row_N, start_B1, fired_BF, sum_BF, square_BF, token_BF, value_BF
) -> None:
    """Of every cell, whose tokens begin at `start_B1`: in how many of them each unit fires, the sums of its
    activations and of their squares, the token where it fires most strongly, and how strongly."""
    for b in range(len(start_B1) - 1):
        fired_F, sum_F = fired_BF[b, first:last], sum_BF[b, first:last]
        square_F = square_BF[b, first:last]
        token_F, value_F = token_BF[b, first:last], value_BF[b, first:last]
        for n in range(start_B1[b], start_B1[b + 1]):
            z_F = z_RF[row_N[n], first:last]
            for f in range(len(z_F)):
                fired_F[f] += np.int32(z_F[f] > 0)
                z = max(z_F[f], np.float32(0.0))
                sum_F[f] += z
                square_F[f] += np.float64(z) * z
                larger = z_F[f] > value_F[f]
                token_F[f] = np.int32(n) if larger else token_F[f]
                value_F[f] = z_F[f] if larger else value_F[f]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The counted tokens of a batch, cell after cell: row of the cell in the table, position in the text,
    token id and slot, [N] each."""

    row_N: torch.Tensor
    position_N: torch.Tensor
    id_N: torch.Tensor
    slot_N: torch.Tensor

    @cached_property
    def here(self) -> tuple[np.ndarray, ...]:
        """The four in main memory, copied once for all layers."""
        return tuple(part.cpu().numpy() for part in (self.row_N, self.position_N, self.id_N, self.slot_N))


class Examples:
    """Fixed-size heaps, in main memory: key, row, position, slot, activation [F, k], the context's token ids
    and activations [F, k, W]. An empty place has the key −inf; a context token outside the cell the id −1."""

    def __init__(self, n_units: int, k: int, before: int, after: int) -> None:
        self.before, self.after, self.k = before, after, k
        width = before + 1 + after
        self._key_Fk = np.full((n_units, k), -np.inf)
        # The keys are kept in order; all else stays where it was put, at the index that belongs to the key.
        self._index_Fk = np.tile(np.arange(k), (n_units, 1))
        self._token_Fk = np.full((n_units, k), -1)
        self._held = {
            "row": np.full((n_units, k), -1),
            "position": np.zeros((n_units, k), dtype=np.int64),
            "slot": np.zeros((n_units, k), dtype=np.int64),
            "value": np.zeros((n_units, k), dtype=np.float32),
            "ids": np.full((n_units, k, width), -1, dtype=np.int32),
            "values": np.zeros((n_units, k, width), dtype=np.float32),
        }

    @property
    def key_Fk(self) -> np.ndarray:
        """Keys, the largest first."""
        return self._key_Fk

    def held(self, name: str) -> np.ndarray:
        """`row`, `position`, `slot`, `value` [F, k], `ids` or `values` [F, k, W], by falling keys."""
        found = self._held[name]
        return found[np.arange(len(found))[:, None], self._index_Fk]

    def adding(
        self, key_E: torch.Tensor, pairs: Pairs, active: Active, tokens: Tokens, one_a_cell: bool
    ) -> Adding:
        """To take in the candidates `pairs` with their keys. On ties the one that came first stays."""
        if not self.k:
            return lambda: None
        parts = [key_E, pairs.unit_E, pairs.token_E]
        if key_E.device.type != "cpu":  # only those that may stay cross over
            least_F = torch.from_numpy(self._key_Fk[:, -1]).to(key_E.device)
            chosen_E = key_E > least_F[pairs.unit_E]
            at_E = chosen_E.nonzero()[:, 0]
            parts = [part[at_E] for part in parts]
        # The heaps of the next state; what belongs to those that come in is still asked of the device.
        heaps = [heap.copy() for heap in (self._key_Fk, self._index_Fk, self._held["row"], self._token_Fk)]
        arrays = (part.cpu().numpy() for part in parts)
        keep_best(*arrays, tokens.here[0], one_a_cell, *heaps)
        key_Fk, index_Fk, row_Fk, token_Fk = heaps
        where = np.nonzero(token_Fk >= 0)
        new = self._belonging(where, token_Fk[where], active, tokens) if len(where[0]) else {}

        def add() -> None:
            heaps = (self._key_Fk, key_Fk), (self._index_Fk, index_Fk), (self._held["row"], row_Fk)
            for heap, found in heaps:
                heap[...] = found
            for name, found in new.items():
                self._held[name][where] = found

        return add

    def _belonging(
        self, where: tuple[np.ndarray, ...], token_C: np.ndarray, active: Active, tokens: Tokens
    ) -> dict[str, np.ndarray]:
        """What belongs to the examples that come in, by name."""
        row_N, position_N, id_N, slot_N = tokens.here
        near_CW, id_CW = np.empty((2, len(token_C), self.before + 1 + self.after), dtype=np.int64)
        contexts(token_C, self.before, row_N, id_N, near_CW, id_CW)
        values_CW = active.around(near_CW, where[0])
        return {
            "position": position_N[token_C],
            "slot": slot_N[token_C],
            "value": values_CW[:, self.before],
            "ids": id_CW,
            "values": values_CW,
        }


@compiled
def keep_best(key_E, unit_E, token_E, row_N, one_a_cell, key_Fk, index_Fk, row_Fk, token_Fk) -> None:
    """Take the candidates into the heaps one after another. `key_Fk` falls; `index_Fk` says where the rest
    of each example lies: its cell's row, and its token, where it is one of these candidates'."""
    k = key_Fk.shape[1]
    for e in range(len(key_E)):
        unit, key, place = unit_E[e], key_E[e], k - 1
        if key <= key_Fk[unit, place]:
            continue
        row = row_N[token_E[e]]
        if one_a_cell:
            for i in range(k):
                if key_Fk[unit, i] > -np.inf and row_Fk[unit, index_Fk[unit, i]] == row:
                    place = i
        if key <= key_Fk[unit, place]:
            continue
        index = index_Fk[unit, place]
        while place > 0 and key_Fk[unit, place - 1] < key:
            key_Fk[unit, place] = key_Fk[unit, place - 1]
            index_Fk[unit, place] = index_Fk[unit, place - 1]
            place -= 1
        key_Fk[unit, place], index_Fk[unit, place] = key, index
        row_Fk[unit, index], token_Fk[unit, index] = row, token_E[e]


@compiled
def contexts(token_C, before, row_N, id_N, near_CW, id_CW) -> None:
    """The tokens around some tokens and their ids, as far as they belong to the same cell; else −1."""
    for c in range(len(token_C)):
        for w in range(near_CW.shape[1]):
            n = token_C[c] + w - before
            inside = 0 <= n < len(row_N) and row_N[n] == row_N[token_C[c]]
            near_CW[c, w], id_CW[c, w] = (n, id_N[n]) if inside else (-1, -1)
