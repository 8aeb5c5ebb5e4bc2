"""The activations of a batch's units, as far as they are needed: active pairs of few, or a matrix of many.

Legend: N tokens, R padded rows of a batch, F units, E active pairs (token, unit), C examples, W tokens of
context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from scx_core.training.ops.kernels import compiled
from scx_core.training.ops.sparse import above


@dataclass(frozen=True, eq=False)
class Pairs:
    """Active pairs: token, unit and activation (> 0), [E] each, by token, then unit; of N tokens, F units."""

    token_E: torch.Tensor
    unit_E: torch.Tensor
    value_E: torch.Tensor
    n_tokens: int
    n_units: int

    @cached_property
    def start_N1(self) -> torch.Tensor:
        """Where the pairs of each token begin, and their number."""
        counts_N = torch.bincount(self.token_E, minlength=self.n_tokens)
        return torch.cat([counts_N.new_zeros(1), counts_N.cumsum(0)])

    def around(self, near_CW: np.ndarray, unit_C: np.ndarray) -> np.ndarray:
        """Activations of some units at the tokens near_CW (−1: none, and 0), float32 [C, W]."""
        if self.value_E.is_cuda:
            return self._around_on_card(near_CW, unit_C)
        value_CW = np.empty(near_CW.shape, dtype=np.float32)
        held = (part.cpu().numpy() for part in (self.start_N1, self.unit_E, self.value_E))
        values_of_pairs(near_CW, unit_C, *held, value_CW)
        return value_CW

    def _around_on_card(self, near_CW: np.ndarray, unit_C: np.ndarray) -> np.ndarray:
        """The same, of which only the result crosses over: pairs are sorted by token and unit."""
        device, key_E = self.value_E.device, self.token_E * self.n_units + self.unit_E
        near, unit = torch.from_numpy(near_CW).to(device), torch.from_numpy(unit_C).to(device)
        key_CW = near.clamp(min=0) * self.n_units + unit[:, None]
        if not len(key_E):
            return np.zeros(near_CW.shape, dtype=np.float32)
        at_CW = torch.searchsorted(key_E, key_CW).clamp(max=len(key_E) - 1)
        there_CW = (key_E[at_CW] == key_CW) & (near >= 0)
        found: np.ndarray = torch.where(there_CW, self.value_E[at_CW].float(), 0.0).cpu().numpy()
        return found


class Matrix(NamedTuple):
    """The positive part of `z` [R, F] counts; token n is its row `row_N[n]`."""

    z_RF: torch.Tensor
    row_N: torch.Tensor

    @property
    def n_units(self) -> int:
        """F."""
        return self.z_RF.shape[1]

    def around(self, near_CW: np.ndarray, unit_C: np.ndarray) -> np.ndarray:
        """Activations of some units at the tokens near_CW (−1: none, and 0), float32 [C, W]."""
        if self.z_RF.is_cuda:  # of neurons, the matrix is most of what a layer has
            near, unit = (torch.from_numpy(part).to(self.z_RF.device) for part in (near_CW, unit_C))
            value = self.z_RF[self.row_N[near.clamp(min=0)], unit[:, None]].float().relu()
            found: np.ndarray = torch.where(near >= 0, value, 0.0).cpu().numpy()
            return found
        value_CW = np.empty(near_CW.shape, dtype=np.float32)
        values_of_rows(near_CW, unit_C, self.z_RF.cpu().numpy(), self.row_N.cpu().numpy(), value_CW)
        return value_CW

    def pairs(self, token_n: torch.Tensor) -> Pairs:
        """The active pairs of some tokens, which are given by their numbers, ascending."""
        found = pairs_above(self.z_RF[self.row_N[token_n]], 0.0)
        return replace(found, token_E=token_n[found.token_E], n_tokens=len(self.row_N))


Active = Pairs | Matrix


def pairs_above(pre_NF: torch.Tensor, level: float | torch.Tensor) -> Pairs:
    """The entries above a level, or above one of each unit [F]."""
    place_E, value_E = above(pre_NF, level)
    token_E = place_E // pre_NF.shape[1]
    return Pairs(token_E, place_E - token_E * pre_NF.shape[1], value_E, *pre_NF.shape)


@compiled
def values_of_pairs(near_CW, unit_C, start_N1, unit_E, value_E, value_CW) -> None:
    """The activations of a unit at the tokens around it. Pairs are sorted by unit within each token."""
    for c in range(len(unit_C)):
        for w in range(near_CW.shape[1]):
            value_CW[c, w] = 0.0
            if near_CW[c, w] < 0:
                continue
            low, end = start_N1[near_CW[c, w]], start_N1[near_CW[c, w] + 1]
            high = end
            while low < high:
                middle = (low + high) // 2
                if unit_E[middle] < unit_C[c]:
                    low = middle + 1
                else:
                    high = middle
            if low < end and unit_E[low] == unit_C[c]:
                value_CW[c, w] = value_E[low]


@compiled
def values_of_rows(near_CW, unit_C, z_RF, row_N, value_CW) -> None:
    """The same where the positive part of token n is row `row_N[n]` of a matrix."""
    for c in range(len(unit_C)):
        for w in range(near_CW.shape[1]):
            n = near_CW[c, w]
            value_CW[c, w] = 0.0 if n < 0 else max(z_RF[row_N[n], unit_C[c]], np.float32(0.0))
