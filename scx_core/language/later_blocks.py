"""A forward pass from some block on: what the blocks before it write is known, and not computed again.

Whatever a block is given beside the residual stream (masks, places, rotary embeddings) is kept as it was, so
that nothing here depends on the family. Legend: B cells, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from scx_core.language.hooks import _removed
from scx_core.language.loading import Language

STREAM = "hidden_states"


class BlockCall(NamedTuple):
    """What a block was given in a forward pass: the residual stream before it [B, T, d], and the rest."""

    stream_BTd: torch.Tensor
    args: tuple[Any, ...]
    options: dict[str, Any]


@contextmanager
def captured_blocks(lm: Language) -> Iterator[list[BlockCall]]:
    """While active, each forward pass fills the list with what every block was given, block 0 first."""
    calls: list[BlockCall] = []

    def keep(layer: int):
        def hook(_module, args, options):
            if layer == 0:
                calls.clear()
            named = dict(options)
            stream, *rest = args if args else (named.pop(STREAM),)
            calls.append(BlockCall(stream.detach(), tuple(rest), named))

        return hook

    handles = [
        lm.block(layer).register_forward_pre_hook(keep(layer), with_kwargs=True)
        for layer in range(lm.facts.n_layers)
    ]
    with _removed(handles):
        yield calls


@torch.no_grad()
def hidden_from(lm: Language, calls: list[BlockCall], layer: int) -> torch.Tensor:
    """Hidden states behind the last norm [B, T, d], from block `layer` on, which is given the residual stream
    that `captured_blocks` kept; hooks in these blocks (`replaced_mlps`) act as in a whole pass."""
    stream_BTd = calls[layer].stream_BTd
    for number, call in enumerate(calls[layer:], start=layer):
        found = lm.block(number)(stream_BTd, *call.args, **call.options)
        stream_BTd = found[0] if isinstance(found, tuple) else found
    return lm.final_norm(stream_BTd)
