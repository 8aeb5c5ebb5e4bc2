"""Which features are active, and arithmetic on them alone.

A few of a thousand features are active at a token, so decoding and all gradients cost hundreds of times
less than with dense matrices; only the encoder itself is dense. Where the sparse kernels are not at hand
(no MKL, or a GPU, whose dense ones are fast), a dense way gives the same numbers.
Legend: T tokens, F features, d width, N active pairs, sorted by token.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch

# Said once of every CSR tensor; a test holds our use of them to the dense result.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class Pattern(NamedTuple):
    """Active pairs in CSR form: the features of token t are feature_N[start_T1[t] : start_T1[t + 1]]."""

    start_T1: torch.Tensor
    feature_N: torch.Tensor
    token_N: torch.Tensor


class Selection(NamedTuple):
    """`cut` is the smallest pre-activation that was kept."""

    pattern: Pattern
    cut: float


def pattern_of(flat_N: torch.Tensor, n_tokens: int, n_features: int) -> Pattern:
    """The pattern of ascending positions in a flattened [T, F] matrix."""
    token_N = flat_N // n_features
    counts_T = torch.bincount(token_N, minlength=n_tokens)
    start_T1 = torch.cat([counts_T.new_zeros(1), counts_T.cumsum(0)])
    return Pattern(start_T1, flat_N - token_N * n_features, token_N)


def select_batch(pre_TF: torch.Tensor, n_keep: int, floor: float = 0.0) -> Selection:
    """BatchTopK: the `n_keep` largest positive pre-activations of the batch (fewer if fewer are positive).

    Ties at the cut are all kept. `floor` is a guess below the cut that spares sorting the rest; a guess
    that is too high is noticed and dropped, so that the result never depends on it.
    """
    flat = pre_TF.flatten()
    candidates = (flat > max(floor, 0.0)).nonzero()[:, 0]
    if len(candidates) < n_keep and floor > 0:
        candidates = (flat > 0).nonzero()[:, 0]
    values = flat[candidates]
    cut = 0.0
    if len(candidates) > n_keep:
        cut_ = torch.kthvalue(values, len(values) - n_keep + 1).values
        candidates, cut = candidates[values >= cut_], float(cut_)
    elif len(candidates):
        cut = float(values.min())
    return Selection(pattern_of(candidates, *pre_TF.shape), cut)


def select_tokens(pre_TF: torch.Tensor, k: int) -> Selection:
    """TopK: the `k` largest positive pre-activations of each token."""
    top = pre_TF.topk(k, dim=1)
    mask_TF = torch.zeros_like(pre_TF, dtype=torch.bool).scatter(1, top.indices, top.values > 0)
    kept = top.values[top.values > 0]
    return Selection(
        pattern_of(mask_TF.flatten().nonzero()[:, 0], *pre_TF.shape), float(kept.min()) if len(kept) else 0.0
    )


def sparse_kernels(device: torch.device) -> bool:
    """Whether the sparse way works, and pays, on this device."""
    return device.type == "cpu" and torch.backends.mkl.is_available()


def decode_selected(
    x_Td: torch.Tensor,
    pre_TF: torch.Tensor,
    pattern: Pattern,
    W_enc_Fd: torch.Tensor,
    b_enc_F: torch.Tensor,
    W_dec_Fd: torch.Tensor,
) -> torch.Tensor:
    """Σ over the selected features of (W_enc x + b_enc)_i W_dec[i], [T, d], with gradients to the weights.

    `pre_TF` are the pre-activations that the selection was made on (no gradient needed).
    """
    if sparse_kernels(x_Td.device):
        value_N = pre_TF.detach()[pattern.token_N, pattern.feature_N]
        return _SparseCode.apply(x_Td, value_N, pattern, W_enc_Fd, b_enc_F, W_dec_Fd)
    gate_TF = torch.zeros_like(pre_TF, dtype=torch.bool)
    gate_TF[pattern.token_N, pattern.feature_N] = True
    return (torch.nn.functional.linear(x_Td, W_enc_Fd, b_enc_F) * gate_TF) @ W_dec_Fd


def _csr(
    start: torch.Tensor, column: torch.Tensor, value: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    return torch.sparse_csr_tensor(start, column, value, shape, check_invariants=False)


class _SparseCode(torch.autograd.Function):
    """decode_selected with compressed rows: forward by tokens, the weights' gradients by features."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_Td: torch.Tensor,
        value_N: torch.Tensor,
        pattern: Pattern,
        W_enc_Fd: torch.Tensor,
        b_enc_F: torch.Tensor,
        W_dec_Fd: torch.Tensor,
    ) -> torch.Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(x_Td, value_N, W_dec_Fd)
        shape = (len(x_Td), len(W_dec_Fd))
        return _csr(pattern.start_T1, pattern.feature_N, value_N, shape) @ W_dec_Fd

    @staticmethod
    def backward(ctx: Any, g_Td: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x_Td, value_N, W_dec_Fd = ctx.saved_tensors
        start_T1, feature_N, token_N = ctx.pattern
        n_tokens, n_features = len(x_Td), len(W_dec_Fd)
        zeros = _csr(start_T1, feature_N, torch.zeros_like(value_N), (n_tokens, n_features))
        # Only the products at the active pairs: g_t · W_dec[i].
        g_value_N = torch.sparse.sampled_addmm(zeros, g_Td.contiguous(), W_dec_Fd.T, beta=0.0).values()
        order = feature_N.argsort(stable=True)
        counts_F = torch.bincount(feature_N, minlength=n_features)
        start_F1 = torch.cat([counts_F.new_zeros(1), counts_F.cumsum(0)])
        by_feature = (start_F1, token_N[order])
        g_W_enc = _csr(*by_feature, g_value_N[order], (n_features, n_tokens)) @ x_Td
        g_W_dec = _csr(*by_feature, value_N[order], (n_features, n_tokens)) @ g_Td
        g_b_enc = torch.zeros_like(W_dec_Fd[:, 0]).index_add_(0, feature_N, g_value_N)
        return None, None, None, g_W_enc, g_b_enc, g_W_dec
