"""Active features without sparse kernels: rows of W_dec are gathered and added up, gradients the same way.

For a graphics card, and for processors that MKL does not know; dense products would cost as much as if every
feature were active.
Legend: T tokens, F features, d width, N active pairs, sorted by token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as nnf


def decode_rows(
    x_Td: torch.Tensor,
    value_N: torch.Tensor,
    start_T1: torch.Tensor,
    feature_N: torch.Tensor,
    W_enc_Fd: torch.Tensor,
    b_enc_F: torch.Tensor,
    W_dec_Fd: torch.Tensor,
) -> torch.Tensor:
    """`sparse.decode_selected` of known pre-activations: the features of token t are
    feature_N[start_T1[t] : start_T1[t + 1]]."""
    value_N = _Values.apply(x_Td, value_N, start_T1, feature_N, W_enc_Fd, b_enc_F)
    return _added_up(W_dec_Fd, start_T1, feature_N, value_N)


def _added_up(
    rows_Fd: torch.Tensor, start_T1: torch.Tensor, feature_N: torch.Tensor, weight_N: torch.Tensor
) -> torch.Tensor:
    """Σ over each token's features of weight × the feature's row, [T, d]; with gradients to both."""
    return nnf.embedding_bag(
        feature_N, rows_Fd, start_T1, mode="sum", per_sample_weights=weight_N, include_last_offset=True
    )


class _Values(torch.autograd.Function):
    """Pre-activations of active pairs, which are known: only their gradients to the encoder are left."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_Td: torch.Tensor,
        value_N: torch.Tensor,
        start_T1: torch.Tensor,
        feature_N: torch.Tensor,
        W_enc_Fd: torch.Tensor,
        b_enc_F: torch.Tensor,
    ) -> torch.Tensor:
        ctx.n_features = len(b_enc_F)
        ctx.save_for_backward(x_Td, start_T1, feature_N)
        return value_N.detach().clone()

    @staticmethod
    def backward(ctx: Any, g_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x_Td, start_T1, feature_N = ctx.saved_tensors
        # Σ over a feature's tokens of g × the token's row is the gradient that adding up rows has. PyTorch
        # sorts the pairs for it: on a card no feature of very many tokens keeps the others waiting.
        rows_Td = torch.cat([x_Td, torch.ones_like(x_Td[:, :1])], 1)
        with torch.enable_grad():
            table_Fd = rows_Td.new_zeros(ctx.n_features, rows_Td.shape[1], requires_grad=True)
            bags_Td = _added_up(table_Fd, start_T1, feature_N, g_N.detach())
        (g_Fd,) = torch.autograd.grad(bags_Td, table_Fd, rows_Td)
        return None, None, None, None, g_Fd[:, :-1], g_Fd[:, -1]
