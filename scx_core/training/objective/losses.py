"""Losses of predicted tokens from hidden states, without all of the vocabulary's logits at once.

Legend: N predicted tokens, d residual width, V vocabulary, K conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from scx_core.language import Language
from scx_core.language.answer_tree import capped
from scx_core.metrics import cross_entropy, kl_divergence

# Logits that exist at a time: 32 MB in float32, in up to four copies.
CHUNK_LOGITS = 8_000_000


def log_probs(lm: Language, hidden_Nd: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N, V], at least in float32."""
    logits_NV = capped(lm, lm.model.get_output_embeddings()(hidden_Nd))
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)).log_softmax(-1)


@torch.no_grad()
def token_losses(
    lm: Language,
    hidden_KNd: Sequence[torch.Tensor],
    target_N: torch.Tensor,
    reference_Nd: torch.Tensor,
    with_kl: Sequence[bool] | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Cross-entropy and KL(p_reference ‖ p) of every predicted token, two float64 [N] (nats; method §3), for
    each of several hidden states. `with_kl`: of which the KL is wanted (None: of all); it is 0 elsewhere.

    The reference's logits are made once for all of them, a chunk of tokens at a time, and serve its own
    losses too where the very tensor is among the hidden states.
    """
    shape = (len(hidden_KNd), len(target_N))
    ce_KN = torch.zeros(shape, dtype=torch.float64, device=target_N.device)
    kl_KN = torch.zeros_like(ce_KN)
    wanted = [
        hidden_Nd is not reference_Nd and (with_kl is None or with_kl[k])
        for k, hidden_Nd in enumerate(hidden_KNd)
    ]
    step = max(1, CHUNK_LOGITS // lm.unembedding.shape[0])
    for start in range(0, len(target_N), step):
        chunk = slice(start, start + step)
        other_NV = log_probs(lm, reference_Nd[chunk])
        weight_NV = other_NV.exp() if any(wanted) else other_NV
        for k, hidden_Nd in enumerate(hidden_KNd):
            own_NV = other_NV if hidden_Nd is reference_Nd else log_probs(lm, hidden_Nd[chunk])
            ce_KN[k, chunk] = cross_entropy(own_NV, target_N[chunk]).double()
            if wanted[k]:
                kl_KN[k, chunk] = kl_divergence(other_NV, own_NV, weight_NV, out=own_NV).double()
    return zip(ce_KN, kl_KN, strict=True)
