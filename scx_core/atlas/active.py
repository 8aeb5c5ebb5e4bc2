"""The activations of a batch's units, as far as they are needed: active pairs of few, or a matrix of many.

Legend: N tokens, R places of a batch (padding included), F units, E active pairs (token, unit).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch

from scx_core.atlas.loops import values_at
from scx_core.transcoders.sparse import above


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

    def at(self, token_X: torch.Tensor, unit_X: torch.Tensor) -> torch.Tensor:
        """Activations at some tokens and units of one shape, 0 where they are no pair."""
        if self.value_E.device.type != "cpu":
            return self.at_with_torch(token_X, unit_X)
        value_X = torch.zeros(token_X.shape, dtype=self.value_E.dtype)
        held = self.start_N1, self.unit_E, self.value_E
        parts = (*held, token_X.flatten(), unit_X.flatten(), value_X.view(-1))
        values_at(*(part.numpy() for part in parts))
        return value_X

    def at_with_torch(self, token_X: torch.Tensor, unit_X: torch.Tensor) -> torch.Tensor:
        """`at` on any device."""
        if not len(self.token_E):
            return torch.zeros(token_X.shape, dtype=self.value_E.dtype, device=self.value_E.device)
        place_E = self.token_E * self.n_units + self.unit_E
        wanted_X = token_X * self.n_units + unit_X
        found_X = torch.searchsorted(place_E, wanted_X).clamp(max=len(place_E) - 1)
        return self.value_E[found_X] * (place_E[found_X] == wanted_X)


class Matrix(NamedTuple):
    """The positive part of `z` [R, F] counts; token n is its row `row_N[n]`."""

    z_RF: torch.Tensor
    row_N: torch.Tensor

    @property
    def n_units(self) -> int:
        """F."""
        return self.z_RF.shape[1]

    def at(self, token_X: torch.Tensor, unit_X: torch.Tensor) -> torch.Tensor:
        """Activations at some tokens and units of one shape."""
        return self.z_RF[self.row_N[token_X], unit_X].relu()

    def pairs(self, token_n: torch.Tensor) -> Pairs:
        """The active pairs of some tokens, which are given by their numbers, ascending."""
        found = pairs_above(self.z_RF[self.row_N[token_n]], 0.0)
        return replace(found, token_E=token_n[found.token_E], n_tokens=len(self.row_N))


Active = Pairs | Matrix


def pairs_above(pre_NF: torch.Tensor, level: float | torch.Tensor) -> Pairs:
    """The entries above a level ≥ 0, or above one of each unit [F]."""
    place_E, value_E = above(pre_NF, level)
    token_E = place_E // pre_NF.shape[1]
    return Pairs(token_E, place_E - token_E * pre_NF.shape[1], value_E, *pre_NF.shape)
