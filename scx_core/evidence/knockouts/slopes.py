"""Gradients of a target by the prompt's embeddings, in the real model, with attention patterns held or not.

Legend: N points (prompts of one length, with other embeddings), T positions, M nodes of the answer tree,
Q = T − 1 + M columns, d residual width, V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from scx_core.language import Language
from scx_core.language.answer_tree import AnswerTree, capped, masks

TOKENS = 4096  # of a batch
_WAY = "scx_held"
_HELD: ContextVar[frozenset[int]] = ContextVar("scx_held_layers", default=frozenset())

Value = Callable[[torch.Tensor], torch.Tensor]


def slopes(
    lm: Language, x_NTd: torch.Tensor, tree: AnswerTree, value: Value, held: Collection[int] = ()
) -> torch.Tensor:
    """d value / d embedding at each of these points, [N, T, d]. `value` takes logits [N, M, V] to [N].

    In the layers of `held` the attention patterns are taken as they are at the point: the gradient passes
    through what attention moves, not through where it looks.
    """
    found = []
    size = max(1, TOKENS // x_NTd.shape[1])
    with _held_patterns(lm, held), torch.enable_grad():
        for some_NTd in x_NTd.split(size):
            leaf_NTd = some_NTd.detach().clone().requires_grad_(True)
            total = value(_tree_logits(lm, leaf_NTd, tree)).sum()
            (slope_NTd,) = torch.autograd.grad(total, leaf_NTd)
            found.append(slope_NTd)
    return torch.cat(found)


def _tree_logits(lm: Language, x_NTd: torch.Tensor, tree: AnswerTree) -> torch.Tensor:
    """Logits at every node of the tree behind prompts with these embeddings, [N, M, V]."""
    n, T, _ = x_NTd.shape
    M = len(tree.token_M)
    device = x_NTd.device
    tokens = torch.from_numpy(tree.token_M[1:]).to(device)
    tail = lm.model.get_input_embeddings()(tokens).to(x_NTd.dtype).expand(n, -1, -1)
    at_Q = torch.cat([torch.arange(T - 1), T - 1 + torch.from_numpy(tree.depth_M)])
    sees_QQ = torch.zeros(T - 1 + M, T - 1 + M, dtype=torch.bool)
    sees_QQ[: T - 1, : T - 1] = torch.ones(T - 1, T - 1, dtype=torch.bool).tril()
    sees_QQ[T - 1 :, : T - 1] = True
    sees_QQ[T - 1 :, T - 1 :] = torch.from_numpy(tree.sees_MM)
    hidden_NMd = lm.model.base_model(
        inputs_embeds=torch.cat([x_NTd, tail], 1),
        position_ids=at_Q[None].expand(n, -1).to(device),
        attention_mask=masks(lm, sees_QQ[None].expand(n, -1, -1), at_Q[None], at_Q[None]),
        use_cache=False,
    ).last_hidden_state[:, T - 1 :]
    return capped(lm, lm.model.get_output_embeddings()(hidden_NMd))


@contextmanager
def _held_patterns(lm: Language, held: Collection[int]) -> Iterator[None]:
    before, token = lm.model.config._attn_implementation, _HELD.set(frozenset(held))
    lm.model.set_attn_implementation(_WAY)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
        _HELD.reset(token)


def _attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, *rest: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention as the model has it; the pattern of a held layer has no gradient."""
    if getattr(module, "layer_idx", None) in _HELD.get():
        query, key = query.detach(), key.detach()
    if options.get("softcap") is not None:  # torch's fused attention has none
        eager = sys.modules[type(module).__module__].eager_attention_forward
        return eager(module, query, key, *rest, **options)[0], None
    return sdpa_attention_forward(module, query, key, *rest, **options)[0], None


AttentionInterface.register(_WAY, _attention)
