"""How many operations a pass of a model takes, counted from its sizes, and how many a second are done here.

An operation is a multiplication or an addition. Legend: d width, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from scx_core.language.attention import fast_attention
from scx_core.language.hooks import forward
from scx_core.language.loading import Language
from scx_core.sentences import pad_left

TRIAL_TOKENS, FIRST_TOKENS = 1024, 64  # of a timed pass, about, and of the one before it
TRIALS, TRIAL_SECONDS = 6, 0.5  # timed passes at most, and for how long another one is begun


class Operations(NamedTuple):
    """Of one token: a block's attention and its MLP, and the unembedding."""

    attention: float
    mlp: float
    table: float

    def blocks(self, n_layers: int) -> float:
        """Of so many whole blocks."""
        return n_layers * (self.attention + self.mlp)


def operations(lm: Language, tokens: float) -> Operations:
    """What one token costs in texts of so many tokens: products with weights, and attention to half of the
    text."""

    def weights(module: torch.nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters() if weight.ndim == 2)

    mlp = weights(lm.part(0, "mlp"))
    rest = weights(lm.block(0)) - mlp
    return Operations(2.0 * rest + 2 * tokens * lm.facts.width, 2.0 * mlp, 2.0 * lm.unembedding.numel())


@torch.no_grad()
def speed(lm: Language, prompts: Sequence[Sequence[int]]) -> float:
    """Operations a second in a pass over the first of these prompts (token ids), about `TRIAL_TOKENS` tokens,
    after a shorter pass that is not timed. Of a pass that is soon done the fastest of a few: the first can
    take ten times as long, and so can one while another process is at work."""
    some = prompts[: max(1, TRIAL_TOKENS // len(prompts[0]))]

    def seconds(texts: Sequence[Sequence[int]]) -> float:
        batch = [torch.from_numpy(part).to(lm.device) for part in pad_left(texts, lm.pad_id)]
        since = time.perf_counter()
        forward(lm, *batch, logits_to_keep=1)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        return time.perf_counter() - since

    with fast_attention(lm):
        seconds([some[0][:FIRST_TOKENS]])
        taken = [seconds(some)]
        while sum(taken) < TRIAL_SECONDS and len(taken) < TRIALS:
            taken.append(seconds(some))
    tokens = sum(map(len, some))
    return operations(lm, tokens / len(some)).blocks(lm.facts.n_layers) * tokens / min(taken)


def duration(seconds: float) -> str:
    """In words: seconds below two minutes, else minutes, from two hours on hours, from two days on days."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(1, round(seconds / unit)):,} {name}"
    return f"{seconds / 86_400:,.0f} days"
