"""What each unit writes, seen through the unembedding: from the weights alone, whatever the cell (method §7).

A unit's write vector goes through the gain of the norm behind the MLP, where there is one, and that of the
last norm; every 1/σ is left out, so weights compare within a layer's features and not between layers.
Weights are less their mean over the vocabulary, which moves no probability.
Legend: F units, V vocabulary, d residual width, n kept tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from scx_core.atlas.collect.units import UnitSource
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, decision
from scx_core.language.weights import norm_weights

BLOCK = 20_000_000  # logits that exist at a time


class Pushed(NamedTuple):
    """Of every unit the `n` tokens that it pushes most and the n that it pushes down most (token ids and
    weights, [F, 2n], the strongest push first), and its weight for every answer [F, answers]."""

    token_Fn: torch.Tensor
    weight_Fn: torch.Tensor
    answer_FA: torch.Tensor


@torch.no_grad()
def pushed(lm: Language, units: UnitSource, layer: int, n: int, labels: Sequence[str]) -> Pushed:
    """The output tokens and answers that each unit of a layer moves.

    An answer's weight is that of its decision token, less the mean of its competitors' there (method §4); nan
    where two answers cannot be told apart.
    """
    family = lm.facts.family
    W_U_Vd = norm_weights(family.norm, lm.final_norm).fold(lm.unembedding).float()
    write_Fd = units.writes(layer).to(lm.dtype)
    if family.mlp_post_norm:
        write_Fd = norm_weights(family.norm, lm.part(layer, "mlp_post_norm")).fold_behind(write_Fd)
    n = min(n, len(W_U_Vd))
    wanted = _contrasts(lm, labels)
    step = max(1, BLOCK // len(W_U_Vd))
    parts = []
    for start in range(0, len(write_Fd), step):
        logit_FV = write_Fd[start : start + step].float() @ W_U_Vd.T
        logit_FV -= logit_FV.mean(1, keepdim=True)
        high, low = logit_FV.topk(n, dim=1), logit_FV.topk(n, dim=1, largest=False)
        answer_FA = torch.full((len(logit_FV), len(labels)), torch.nan, device=logit_FV.device)
        for a, (token, others) in wanted.items():
            answer_FA[:, a] = logit_FV[:, token] - logit_FV[:, others].mean(1)
        tokens = torch.cat([high.indices, low.indices.flip(1)], 1)
        parts.append((tokens, torch.cat([high.values, low.values.flip(1)], 1), answer_FA))
    return Pushed(*(torch.cat(columns).cpu() for columns in zip(*parts, strict=True)))


def _contrasts(lm: Language, labels: Sequence[str]) -> dict[int, tuple[int, list[int]]]:
    """For each answer its decision token and the competitors' tokens there."""
    answers = answers_of(lm, labels, lm.prompt.lead if lm.prompt.lead is not None else " ")
    found = {}
    for a, label in enumerate(labels):
        try:
            at = decision(answers, label)
        except ScxError:  # spelled like another one, or the only answer
            continue
        found[a] = (at.token, list(at.competing))
    return found
