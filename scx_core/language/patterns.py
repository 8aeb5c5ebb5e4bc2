"""Attention patterns of a forward pass: kept whole, or made again from queries and keys a layer at a time.

The patterns of all layers are layers × heads × T² numbers: 26 GB of float32 at 24 × 16 and 4,096 tokens.
Beyond a limit the forward pass keeps what each attention reads (layers × T × d) instead, makes the patterns
some queries at a time by the model's own function, and a layer's pattern is made again when it is read: the
same numbers, as the same input and the same blocks go through the same functions.
Legend: B prompts, H heads, T positions, P first positions, d residual width, k head width.
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
_WAY, HIDDEN = "scx_blocks", "hidden_states"


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


class _Call(NamedTuple):
    """What a model's attention hands to the function that mixes the values."""

    module: torch.nn.Module
    query_BHTk: torch.Tensor
    key_BGTk: torch.Tensor
    mask: torch.Tensor | None
    options: dict[str, Any]


class _Stopped(Exception):
    """Carries the call of an attention that is run for its queries and keys alone."""

    def __init__(self, call: _Call) -> None:
        super().__init__()
        self.call = call


class Asked(NamedTuple):
    """A layer's attention in a forward pass: what it read behind the norm, whatever else it was given, and
    what its patterns' rows add up to."""

    module: torch.nn.Module
    read_BTd: torch.Tensor
    args: tuple[Any, ...]
    options: dict[str, Any]
    sum_BHT: torch.Tensor

    @torch.no_grad()
    def again(self) -> _Call:
        """Queries and keys, made again. Hooks stay out of it: they belong to passes of the model."""
        config: Any = self.module.config
        before, config._attn_implementation = config._attn_implementation, _WAY
        token = _ALONE.set(True)
        try:
            self.module.forward(self.read_BTd, *self.args, **self.options)
        except _Stopped as stopped:
            return stopped.call
        finally:
            _ALONE.reset(token)
            config._attn_implementation = before
        raise AssertionError("every family's attention calls the function that is registered here")


class RecomputedPattern(NamedTuple):
    """One layer's pattern at one prompt, made again into the prompt's buffer. What `up_to` gives is valid
    until another layer's, or another number of positions, is asked for."""

    layer: int
    asked: Asked
    prompt: int
    length: int
    buffer: PatternBuffer
    dtype: torch.dtype

    def up_to(self, n_positions: int) -> torch.Tensor:
        """The pattern of the first P positions, [H, P, P]."""
        n_heads = self.asked.sum_BHT.shape[1]
        pattern_HPP = self.buffer.of(n_heads, n_positions)
        if self.buffer.holds != (self.layer, n_positions):
            self._fill(pattern_HPP)
            self.buffer.holds = (self.layer, n_positions)
        return pattern_HPP

    @property
    def pattern_HTT(self) -> torch.Tensor:
        """The whole pattern."""
        return self.up_to(self.length)

    def row_sums(self) -> torch.Tensor:
        """What the rows add up to, [H, T]."""
        return self.asked.sum_BHT[self.prompt, :, : self.length].to(self.dtype)

    def _fill(self, pattern_HPP: torch.Tensor) -> None:
        call, n_positions = _of_prompt(self.asked.again(), self.prompt, self.length), pattern_HPP.shape[-1]
        nothing_BGT1 = call.key_BGTk[..., :1]  # the values do not matter
        for block in _blocks(call.query_BHTk, n_positions):
            found_HQK = _block(call, block, nothing_BGT1)[1][0]
            last = min(block.stop, n_positions)
            pattern_HPP[:, block.start : last, :last] = found_HQK[:, : last - block.start, :last]
            pattern_HPP[:, block.start : last, last:] = 0.0


Pattern = KeptPattern | RecomputedPattern


class Recorded:
    """What the attention of every layer was asked in one forward pass."""

    def __init__(self) -> None:
        self.asked: dict[int, Asked] = {}
        self.sums: dict[int, torch.Tensor] = {}
        self._buffers: dict[int, PatternBuffer] = {}

    def of_prompt(self, layer: int, b: int, n_positions: int, dtype: torch.dtype) -> RecomputedPattern:
        """The pattern of a layer at prompt `b` of the batch; all layers of a prompt share a buffer."""
        asked = self.asked[layer]._replace(sum_BHT=self.sums[layer])
        if b not in self._buffers:
            self._buffers[b] = PatternBuffer(asked.read_BTd.new_empty(0, dtype=dtype))
        return RecomputedPattern(layer, asked, b, n_positions, self._buffers[b], dtype)


def _of_prompt(call: _Call, b: int, n_positions: int) -> _Call:
    mask = call.mask
    return call._replace(
        query_BHTk=call.query_BHTk[b : b + 1, :, :n_positions],
        key_BGTk=call.key_BGTk[b : b + 1, :, :n_positions],
        mask=None if mask is None else mask[b : b + 1] if len(mask) > 1 else mask,
    )


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
_ALONE: ContextVar[bool] = ContextVar("scx_queries_and_keys_alone", default=False)


@contextmanager
def attention_in_blocks(lm: Language) -> Iterator[Recorded]:
    """Inside, the model's attention makes its patterns some queries at a time and keeps none; what it was
    asked is recorded."""
    before, record = lm.model.config._attn_implementation, Recorded()
    lm.model.set_attn_implementation(_WAY)
    token = _RECORD.set(record)

    def keep(layer: int):
        def hook(module, args, options):
            named = dict(options)
            read_BTd, *rest = args if args else (named.pop(HIDDEN),)
            record.asked[layer] = Asked(module, read_BTd, tuple(rest), named, read_BTd[:0])

        return hook

    handles = [
        lm.part(layer, "attn").register_forward_pre_hook(keep(layer), with_kwargs=True)
        for layer in range(lm.facts.n_layers)
    ]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
        _RECORD.reset(token)
        lm.model.set_attn_implementation(before)


def _blocks(query_BHTk: torch.Tensor, n_positions: int) -> list[range]:
    """Queries that are taken together: whole blocks of the prompt, up to the one with position P − 1."""
    n_heads, length = query_BHTk.shape[1:3]
    step = max(1, BLOCK_NUMBERS // (n_heads * length))
    return [range(first, min(first + step, length)) for first in range(0, n_positions, step)]


def _block(call: _Call, block: range, value_BGTx: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and pattern of some queries, by the model's own function; later keys are behind the mask."""
    mask = None if call.mask is None else call.mask[:, :, block.start : block.stop, : block.stop]
    eager = sys.modules[type(call.module).__module__].eager_attention_forward
    query_BHQk = call.query_BHTk[:, :, block.start : block.stop]
    key_BGKk, value_BGKx = call.key_BGTk[:, :, : block.stop], value_BGTx[:, :, : block.stop]
    return eager(call.module, query_BHQk, key_BGKk, value_BGKx, mask, **call.options)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The model's own attention, some queries at a time."""
    call = _Call(module, query, key, attention_mask, options)
    if _ALONE.get():
        raise _Stopped(call)
    sums_BHT = query.new_empty(query.shape[:3])
    found = []
    for block in _blocks(query, query.shape[2]):
        out_BQHk, pattern_BHQK = _block(call, block, value)
        sums_BHT[:, :, block.start : block.stop] = pattern_BHQK.sum(-1)
        found.append(out_BQHk)
    record = _RECORD.get()
    if record is not None:
        record.sums[int(module.layer_idx)] = sums_BHT  # type: ignore[arg-type]
    return torch.cat(found, 1), None


AttentionInterface.register(_WAY, _attention)
AttentionMaskInterface.register(_WAY, eager_mask)
