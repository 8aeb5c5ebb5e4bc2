"""Losses of next-token predictions in nats, what a stand-in wins back of them, and labels that stay.

Legend: N tokens, V vocabulary, C cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def cross_entropy(log_p_NV: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """−log p of each target token [N], of log-probabilities."""
    return -log_p_NV.gather(-1, target_N[..., None])[..., 0]


def kl_divergence(
    log_p_NV: torch.Tensor,
    log_q_NV: torch.Tensor,
    p_NV: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(p ‖ q) = Σ p (log p − log q) at each token [N], of log-probabilities: p the original model's, q
    those with its MLPs replaced.

    `p_NV` is exp(log p) where it is at hand. `out` [N, V], which may be q's own tensor, takes what lies
    between, and spares the memory of it; without gradients then.
    """
    p_NV = log_p_NV.exp() if p_NV is None else p_NV
    if out is None:
        return (p_NV * (log_p_NV - log_q_NV)).sum(-1)
    return torch.sub(log_p_NV, log_q_NV, out=out).mul_(p_NV).sum(-1)


def ce_recovered(ce_zero: Any, ce_stand_in: Any, ce_orig: Any) -> Any:
    """Share of the loss that a stand-in wins back, (CE zero − CE stand-in) / (CE zero − CE original).

    1 is perfect, 0 as bad as no MLP, negative worse, never clipped; nan where removing the MLPs changes
    nothing. Of numbers, or of arrays entry by entry. With another baseline's loss for CE zero it is what is
    won back of the loss that this baseline leaves.
    """
    zero, stand_in, orig = (np.asarray(value, dtype=np.float64) for value in (ce_zero, ce_stand_in, ce_orig))
    lost = zero - orig
    share = np.divide(zero - stand_in, lost, out=np.full(np.shape(lost), np.nan), where=lost != 0)
    return float(share) if share.ndim == 0 else share


def agreement(label_C: Any, reference_C: Any) -> float:
    """Share of cells that two lists of labels (or of their numbers) name alike: with the original model's it
    is the label agreement, with the data set's the accuracy; nan without cells."""
    same_C = np.asarray(label_C) == np.asarray(reference_C)
    return float(same_C.mean()) if same_C.size else float("nan")
