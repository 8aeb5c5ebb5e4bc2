"""Attention patterns of a forward pass: kept whole, or made again from queries and keys a layer at a time.

The patterns of all layers are layers × heads × T² numbers: 26 GB of float32 at 24 × 16 and 4,096 tokens.
Beyond a limit the forward pass keeps queries and keys (layers × T × 2 d) instead, makes the patterns some
queries at a time by the model's own function, and a layer's pattern is made again when it is read: the same
numbers, as the same blocks go through the same function.
Legend: B prompts, H heads, T positions, P first positions, k head width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from scx_core.language.loading import Language

KEPT_NUMBERS = 512_000_000  # of all layers' patterns of one prompt; beyond, a layer's is made when it is read
BLOCK_NUMBERS = 8_000_000  # of patterns that are made at a time: heads × queries × keys
KEPT, BY_LAYER = "kept", "made again a layer at a time"
_WAY = "scx_blocks"


def patterns_plan(lm: Language, n_tokens: int) -> str:
    """How the patterns of a prompt of so many tokens are held: `KEPT`, or `BY_LAYER`. By the numbers alone,
    so that the same inputs are traced in the same way on every computer."""
    numbers = lm.facts.n_layers * lm.facts.n_heads * n_tokens**2
    return KEPT if numbers <= KEPT_NUMBERS else BY_LAYER


class KeptPattern(NamedTuple):
    """One layer's pattern at one prompt, in memory."""

    pattern_HTT: torch.Tensor

    def up_to(self, n_positions: int) -> torch.Tensor:
        """The pattern of the first P positions, [H, P, P]."""
        return self.pattern_HTT[:, :n_positions, :n_positions]

    def row_sums(self) -> torch.Tensor:
        """What the rows add up to, [H, T]."""
        return self.pattern_HTT.sum(-1)


class PatternBuffer:
    """The one pattern that a prompt has in memory: which layer's, of how many positions."""

    def __init__(self, like: torch.Tensor) -> None:
        self._like, self._flat = like, like.new_empty(0)
        self.holds: tuple[int, int] | None = None

    def of(self, n_heads: int, n_positions: int) -> torch.Tensor:
        """Room for a pattern [H, P, P]; what was there is lost."""
        n = n_heads * n_positions**2
        if len(self._flat) < n:
            self._flat = self._like.new_empty(0)  # before the larger one is there
            self._flat = self._like.new_empty(n)
        return self._flat[:n].view(n_heads, n_positions, n_positions)

    def release(self) -> None:
        """Give the memory back; the next pattern asks for it again."""
        self._flat, self.holds = self._like.new_empty(0), None


class _Asked(NamedTuple):
    """What a layer's attention was asked in a forward pass, and what its patterns' rows add up to."""

    module: torch.nn.Module
    query_BHTk: torch.Tensor
    key_BGTk: torch.Tensor
    mask: torch.Tensor | None
    options: dict[str, Any]
    sum_BHT: torch.Tensor


class RecomputedPattern(NamedTuple):
    """One layer's pattern at one prompt, made again into the prompt's buffer. What `up_to` gives is valid
    until another layer's, or another number of positions, is asked for."""

    layer: int
    asked: _Asked
    buffer: PatternBuffer
    dtype: torch.dtype

    def up_to(self, n_positions: int) -> torch.Tensor:
        """The pattern of the first P positions, [H, P, P]."""
        n_heads = self.asked.query_BHTk.shape[1]
        pattern_HPP = self.buffer.of(n_heads, n_positions)
        if self.buffer.holds != (self.layer, n_positions):
            self._fill(pattern_HPP)
            self.buffer.holds = (self.layer, n_positions)
        return pattern_HPP

    @property
    def pattern_HTT(self) -> torch.Tensor:
        """The whole pattern."""
        return self.up_to(self.asked.query_BHTk.shape[2])

    def row_sums(self) -> torch.Tensor:
        """What the rows add up to, [H, T]."""
        return self.asked.sum_BHT[0].to(self.dtype)

    def _fill(self, pattern_HPP: torch.Tensor) -> None:
        asked, n_positions = self.asked, pattern_HPP.shape[-1]
        nothing_BGT1 = asked.key_BGTk[..., :1]  # the values do not matter
        for block in _blocks(asked.query_BHTk, n_positions):
            found_HQK = _block(asked, block, nothing_BGT1)[1][0]
            last = min(block.stop, n_positions)
            pattern_HPP[:, block.start : last, :last] = found_HQK[:, : last - block.start, :last]
            pattern_HPP[:, block.start : last, last:] = 0.0


Pattern = KeptPattern | RecomputedPattern


class Recorded:
    """What the attention of every layer was asked in one forward pass."""

    def __init__(self) -> None:
        self.asked: dict[int, _Asked] = {}

    def of_prompt(self, b: int, n_positions: int, dtype: torch.dtype) -> list[RecomputedPattern]:
        """The patterns of prompt `b` of the batch, one a layer, with a buffer of their own."""
        found: list[RecomputedPattern] = []
        buffer = None
        for layer, all_of in sorted(self.asked.items()):
            mask = all_of.mask
            asked = all_of._replace(
                query_BHTk=all_of.query_BHTk[b : b + 1, :, :n_positions],
                key_BGTk=all_of.key_BGTk[b : b + 1, :, :n_positions],
                mask=None if mask is None else mask[b : b + 1] if len(mask) > 1 else mask,
                sum_BHT=all_of.sum_BHT[b : b + 1, :, :n_positions],
            )
            buffer = buffer or PatternBuffer(asked.query_BHTk.new_empty(0, dtype=dtype))
            found.append(RecomputedPattern(layer, asked, buffer, dtype))
        return found


ONE_LAYER = 128_000_000  # of one layer's patterns of a batch, beyond which they are made in blocks


@contextmanager
def sparing_attention(lm: Language, n_prompts: int, n_tokens: int) -> Iterator[None]:
    """Inside, attention that is not fused makes large patterns in blocks."""
    eager = lm.model.config._attn_implementation == "eager"
    if not eager or lm.facts.n_heads * n_prompts * n_tokens**2 <= ONE_LAYER:
        yield
        return
    lm.model.set_attn_implementation(_WAY)
    try:
        yield
    finally:
        lm.model.set_attn_implementation("eager")


_RECORD: ContextVar[Recorded | None] = ContextVar("scx_recorded_attention", default=None)


@contextmanager
def attention_in_blocks(lm: Language) -> Iterator[Recorded]:
    """Inside, the model's attention makes its patterns some queries at a time and keeps none; what it was
    asked is recorded."""
    before, record = lm.model.config._attn_implementation, Recorded()
    lm.model.set_attn_implementation(_WAY)
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)
        lm.model.set_attn_implementation(before)


def _blocks(query_BHTk: torch.Tensor, n_positions: int) -> list[range]:
    """Queries that are taken together: whole blocks of the prompt, up to the one with position P − 1."""
    n_heads, length = query_BHTk.shape[1:3]
    step = max(1, BLOCK_NUMBERS // (n_heads * length))
    return [range(first, min(first + step, length)) for first in range(0, n_positions, step)]


def _block(asked: _Asked, block: range, value_BGTx: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and pattern of some queries, by the model's own function; later keys are behind the mask."""
    mask = None if asked.mask is None else asked.mask[:, :, block.start : block.stop, : block.stop]
    eager = sys.modules[type(asked.module).__module__].eager_attention_forward
    query_BHQk = asked.query_BHTk[:, :, block.start : block.stop]
    key_BGKk, value_BGKx = asked.key_BGTk[:, :, : block.stop], value_BGTx[:, :, : block.stop]
    return eager(asked.module, query_BHQk, key_BGKk, value_BGKx, mask, **asked.options)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The model's own attention, some queries at a time."""
    sums_BHT = query.new_empty(query.shape[:3])
    asked = _Asked(module, query, key, attention_mask, options, sums_BHT)
    found = []
    for block in _blocks(query, query.shape[2]):
        out_BQHk, pattern_BHQK = _block(asked, block, value)
        sums_BHT[:, :, block.start : block.stop] = pattern_BHQK.sum(-1)
        found.append(out_BQHk)
    record = _RECORD.get()
    if record is not None:
        record.asked[int(module.layer_idx)] = asked  # type: ignore[arg-type]
    return torch.cat(found, 1), None


AttentionInterface.register(_WAY, _attention)
AttentionMaskInterface.register(_WAY, eager_mask)
