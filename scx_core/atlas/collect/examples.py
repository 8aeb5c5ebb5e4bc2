"""The k examples of each unit with the largest key: its activation, or a random number for a fair sample.

Legend: F units, k examples, W tokens of context, N tokens of a batch, E candidates, C changed examples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from scx_core.atlas.collect.active import Active, Pairs
from scx_core.atlas.collect.kernels import contexts, keep_best


class Tokens(NamedTuple):
    """The counted tokens of a batch, cell after cell: row of the cell in the table, position in the text,
    token id and slot, [N] each."""

    row_N: torch.Tensor
    position_N: torch.Tensor
    id_N: torch.Tensor
    slot_N: torch.Tensor


class Examples:
    """Fixed-size heaps, in main memory: key, row, position, slot, activation [F, k], the context's token ids
    and activations [F, k, W]. An empty place has the key −inf; a context token outside the cell the id −1."""

    def __init__(self, n_units: int, k: int, before: int, after: int) -> None:
        self.before, self.after, self.k = before, after, k
        width = before + 1 + after
        self._key_Fk = np.full((n_units, k), -np.inf)
        # The keys are kept in order; all else stays where it was put, in the drawer that the key points to.
        self._drawer_Fk = np.tile(np.arange(k), (n_units, 1))
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
        return found[np.arange(len(found))[:, None], self._drawer_Fk]

    def add(
        self, key_E: torch.Tensor, pairs: Pairs, active: Active, tokens: Tokens, one_a_cell: bool
    ) -> None:
        """Take in the candidates `pairs` with their keys. On ties the one that came first stays."""
        if not self.k:
            return
        parts = [key_E, pairs.unit_E, pairs.token_E]
        if key_E.device.type != "cpu":  # only those that may stay cross over
            least_F = torch.from_numpy(self._key_Fk[:, -1]).to(key_E.device)
            chosen_E = key_E > least_F[pairs.unit_E]
            parts = [part[chosen_E] for part in parts]
        heaps = self._key_Fk, self._drawer_Fk, self._held["row"], self._token_Fk
        arrays = (part.cpu().numpy() for part in (*parts, tokens.row_N))
        keep_best(*arrays, one_a_cell, *heaps)
        self._fill(active, tokens)

    def _fill(self, active: Active, tokens: Tokens) -> None:
        """What belongs to the examples that have just come in."""
        where = np.nonzero(self._token_Fk >= 0)
        if not len(where[0]):
            return
        row_N, position_N, id_N, slot_N = (part.cpu().numpy() for part in tokens)
        token_C = self._token_Fk[where]
        near_CW, id_CW = np.empty((2, len(token_C), self.before + 1 + self.after), dtype=np.int64)
        contexts(token_C, self.before, row_N, id_N, near_CW, id_CW)
        values_CW = active.around(near_CW, where[0])
        new = {
            "position": position_N[token_C],
            "slot": slot_N[token_C],
            "value": values_CW[:, self.before],
            "ids": id_CW,
            "values": values_CW,
        }
        for name, found in new.items():
            self._held[name][where] = found
        self._token_Fk[where] = -1
