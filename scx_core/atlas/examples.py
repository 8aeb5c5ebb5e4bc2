"""The k examples of each unit with the largest key: its activation, or a random number for a fair sample.

Legend: F units, k examples, W tokens of context, N tokens of a batch, E candidates, A units with candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.atlas.sums import Pairs


class Tokens(NamedTuple):
    """The counted tokens of a batch, cell after cell: row of the cell in the table, position in the text,
    token id and slot, [N] each."""

    row_N: torch.Tensor
    position_N: torch.Tensor
    id_N: torch.Tensor
    slot_N: torch.Tensor


class Examples:
    """Fixed-size heaps: key, row, position, slot, activation [F, k], the context's token ids and activations
    [F, k, W]. An empty place has the key −inf; a context token outside the cell has the id −1."""

    def __init__(self, n_units: int, k: int, before: int, after: int, device: torch.device) -> None:
        self.before, self.after, self.k = before, after, k
        width = before + 1 + after
        self.key_Fk = torch.full((n_units, k), -torch.inf, dtype=torch.float64, device=device)
        self.row_Fk = torch.full((n_units, k), -1, dtype=torch.int64, device=device)
        self.position_Fk = torch.zeros_like(self.row_Fk)
        self.slot_Fk = torch.zeros_like(self.row_Fk)
        self.value_Fk = torch.zeros(n_units, k, dtype=torch.float32, device=device)
        self.id_FkW = torch.full((n_units, k, width), -1, dtype=torch.int32, device=device)
        self.value_FkW = torch.zeros(n_units, k, width, dtype=torch.float32, device=device)

    def add(
        self, key_E: torch.Tensor, pairs: Pairs, z_NF: torch.Tensor, tokens: Tokens, one_a_cell: bool
    ) -> None:
        """Take in the candidates `pairs` with their keys. On ties the one that came first stays."""
        chosen_E = self._best(key_E, pairs, tokens, one_a_cell)
        if not len(chosen_E):
            return
        key_E, token_E, unit_E = key_E[chosen_E], pairs.token_E[chosen_E], pairs.unit_E[chosen_E]
        unit_A, place_E, counts_A = unit_E.unique_consecutive(return_inverse=True, return_counts=True)
        rank_E = torch.arange(len(unit_E), device=unit_E.device) - (counts_A.cumsum(0) - counts_A)[place_E]
        ids_EW, values_EW = self._context(token_E, unit_E, z_NF, tokens)
        new = {
            "key_Fk": key_E,
            "row_Fk": tokens.row_N[token_E],
            "position_Fk": tokens.position_N[token_E],
            "slot_Fk": tokens.slot_N[token_E],
            "value_Fk": z_NF[token_E, unit_E],
            "id_FkW": ids_EW,
            "value_FkW": values_EW,
        }
        kept_Ak = None
        for name, values in new.items():
            mine = getattr(self, name)
            both = torch.cat([mine[unit_A], torch.full_like(mine[unit_A], -1)], 1)
            if name == "key_Fk":
                both[:, self.k :] = -torch.inf
            both[place_E, self.k + rank_E] = values.to(both.dtype)
            if kept_Ak is None:
                kept_Ak = both.sort(dim=1, descending=True, stable=True).indices[:, : self.k]
            mine[unit_A] = both[torch.arange(len(unit_A), device=unit_A.device)[:, None], kept_Ak]

    def _best(self, key_E: torch.Tensor, pairs: Pairs, tokens: Tokens, one_a_cell: bool) -> torch.Tensor:
        """Indices of the candidates that may stay, by unit, then falling key: at most k of a unit."""
        index_E = (key_E > self.key_Fk[pairs.unit_E, -1]).nonzero()[:, 0]
        index_E = index_E[key_E[index_E].sort(descending=True, stable=True).indices]
        index_E = index_E[pairs.unit_E[index_E].sort(stable=True).indices]
        if one_a_cell:
            # By unit and cell, the strongest first: the first of each run stays.
            row_E, unit_E = tokens.row_N[pairs.token_E[index_E]], pairs.unit_E[index_E]
            order = row_E.sort(stable=True).indices
            order = order[unit_E[order].sort(stable=True).indices]
            first = torch.ones(len(order), dtype=torch.bool, device=order.device)
            first[1:] = (unit_E[order][1:] != unit_E[order][:-1]) | (row_E[order][1:] != row_E[order][:-1])
            index_E = index_E[order[first].sort().values]
        unit_E = pairs.unit_E[index_E]
        _, place_E, counts_A = unit_E.unique_consecutive(return_inverse=True, return_counts=True)
        rank_E = torch.arange(len(unit_E), device=unit_E.device) - (counts_A.cumsum(0) - counts_A)[place_E]
        return index_E[rank_E < self.k]

    def _context(
        self, token_E: torch.Tensor, unit_E: torch.Tensor, z_NF: torch.Tensor, tokens: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        step_W = torch.arange(-self.before, self.after + 1, device=token_E.device)
        near_EW = (token_E[:, None] + step_W).clamp(0, len(z_NF) - 1)
        there_EW = tokens.row_N[near_EW] == tokens.row_N[token_E][:, None]
        # The clamp repeats the batch's first or last token: only the right distance in the text counts.
        distance_EW = tokens.position_N[near_EW] - tokens.position_N[token_E][:, None]
        there_EW &= distance_EW == step_W
        ids_EW = torch.where(there_EW, tokens.id_N[near_EW], -1)
        return ids_EW, z_NF[near_EW, unit_E[:, None]] * there_EW
