"""Two ways to bring dead features back: a loss that teaches them the error, and a fresh start on bad tokens.

Legend: T tokens, d width, D dead features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as nnf

AUX_FEATURES = 32  # dead features a token that the auxiliary loss lets explain the error


class FreshRows(NamedTuple):
    """Encoder and decoder rows [D, d] of features that start anew."""

    W_enc_Dd: torch.Tensor
    W_dec_Dd: torch.Tensor


def revival_loss(
    x_Td: torch.Tensor,
    error_Td: torch.Tensor,
    W_enc_Dd: torch.Tensor,
    b_enc_D: torch.Tensor,
    W_dec_Dd: torch.Tensor,
) -> torch.Tensor:
    """How badly the dead features alone explain the remaining error, relative to that error.

    Softplus instead of a gate: a dead feature's pre-activation is negative nearly everywhere, and a gate
    would send no gradient to its encoder row. With it the encoder learns which tokens to fire on. Its
    scale is the share of the error that each of the features used would have to carry.
    """
    n_aux = min(AUX_FEATURES, len(b_enc_D))
    scale = error_Td.square().sum(1).mean().sqrt().clamp(min=1e-8) / n_aux**0.5
    pre_TD = nnf.linear(x_Td, W_enc_Dd, b_enc_D)
    top = pre_TD.topk(n_aux, dim=1)
    z_TD = torch.zeros_like(pre_TD).scatter(1, top.indices, scale * nnf.softplus(top.values / scale))
    missing_Td = error_Td - z_TD @ W_dec_Dd
    return missing_Td.square().sum() / error_Td.square().sum().clamp(min=1e-12)


def fresh_rows(
    x_Td: torch.Tensor, error_Td: torch.Tensor, cut: float, n: int, generator: torch.Generator
) -> FreshRows:
    """Rows for `n` features, each aimed at one token drawn by its squared error.

    The encoder row lies along that token's input, long enough that the feature is selected there (its
    pre-activation is the error's size, at least twice the cut); the decoder row along its error.
    """
    weight_T = error_Td.square().sum(1).double().cpu()
    pick_D = torch.multinomial(weight_T + weight_T.mean() * 1e-6, n, replacement=True, generator=generator)
    x_Dd, error_Dd = x_Td[pick_D.to(x_Td.device)], error_Td[pick_D.to(x_Td.device)]
    size_D1 = error_Dd.norm(dim=1, keepdim=True).clamp(min=1e-12)
    reach_D1 = size_D1.clamp(min=2 * cut)
    return FreshRows(
        x_Dd * reach_D1 / x_Dd.square().sum(1, keepdim=True).clamp(min=1e-12), error_Dd / size_D1
    )
