"""Which features are active, and arithmetic on them alone.

A few of a thousand features are active at a token, so decoding and all gradients cost hundreds of times
less than with dense matrices; only the encoder itself is dense. Where MKL's sparse kernels are not at hand (a
GPU, another processor) rows are gathered and added up where very few features are active; else a dense way
gives the same numbers.
Legend: T tokens, F features, d width, N active pairs, sorted by token.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as nnf

from scx_core.language import linear

GUESSES = (1.0, 0.5, 0.25, 0.0)  # shares of a guessed floor, one after another until it is low enough
# Without MKL: fewer than one in so many active, and gathering rows costs less than dense products. For a card
# by its bandwidth and speed (3 TB/s, 4e14 operations a second: one in 500; an older one: in 70).
FEW, FEW_ON_A_CARD = 16, 256
WORTH_COMPILING = 2**20  # pre-activations of a batch; for fewer, loading the compiled loops costs more


class Pattern(NamedTuple):
    """Active pairs in CSR form: the features of token t are feature_N[start_T1[t] : start_T1[t + 1]]."""

    start_T1: torch.Tensor
    feature_N: torch.Tensor
    token_N: torch.Tensor


class FeatureSelection(NamedTuple):
    """`value_N` are the pre-activations that were kept; `threshold` is the smallest of them (of
    TopK the mean over tokens of each one's smallest: another has to be as large to be kept). On a card it is
    a scalar tensor: a number would be waited for."""

    pattern: Pattern
    threshold: float | torch.Tensor
    value_N: torch.Tensor


@lru_cache(maxsize=1)
def _compiled() -> ModuleType | None:
    try:
        from scx_core.training.ops import kernels
    except ImportError as error:
        warnings.warn(f"Features are selected without compiled loops, slower: {error}.", stacklevel=4)
        return None
    return kernels


def _kernels(pre_TF: torch.Tensor) -> ModuleType | None:
    """The compiled loops, where they are at hand and pay."""
    fits = pre_TF.device.type == "cpu" and pre_TF.dtype == torch.float32 and pre_TF.is_contiguous()
    return _compiled() if fits and pre_TF.numel() >= WORTH_COMPILING else None


def row_kernels(weight: torch.Tensor) -> ModuleType | None:
    """The compiled loops over the rows of a weight, where they are at hand and pay."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return _compiled() if fits and weight.numel() >= WORTH_COMPILING else None


def number(value: torch.Tensor) -> float | torch.Tensor:
    """A scalar as a number; on a card as it is, as reading it would wait for all that was asked before."""
    return value.detach() if value.is_cuda else float(value.detach())


def first_true(mask_N: torch.Tensor, n: int) -> torch.Tensor:
    """Where the `n` true values of a mask are, ascending: `nonzero` of a known number, which a card would
    otherwise be waited for."""
    if not mask_N.is_cuda:
        return mask_N.nonzero()[:, 0]
    return mask_N.byte().argsort(descending=True, stable=True)[:n]


def times_of(index_N: torch.Tensor, n: int, weight_N: torch.Tensor | None = None) -> torch.Tensor:
    """How often each of 0 … n − 1 occurs, int64 [n], or the sums of weights: `bincount`, which a card would
    wait for."""
    if not index_N.is_cuda:
        return torch.bincount(index_N, weight_N, minlength=n)
    weight_N = torch.ones_like(index_N) if weight_N is None else weight_N
    return weight_N.new_zeros(n).index_add_(0, index_N, weight_N)


def pattern_of(flat_N: torch.Tensor, n_tokens: int, n_features: int) -> Pattern:
    """The pattern of ascending positions in a flattened [T, F] matrix."""
    token_N = flat_N // n_features
    if flat_N.is_cuda:
        edge_T1 = torch.arange(n_tokens + 1, device=flat_N.device)
        start_T1 = torch.searchsorted(token_N, edge_T1)
        return Pattern(start_T1, flat_N - token_N * n_features, token_N)
    counts_T = torch.bincount(token_N, minlength=n_tokens)
    start_T1 = torch.cat([counts_T.new_zeros(1), counts_T.cumsum(0)])
    return Pattern(start_T1, flat_N - token_N * n_features, token_N)


def select_batch(pre_TF: torch.Tensor, n_keep: int, floor: float | torch.Tensor = 0.0) -> FeatureSelection:
    """BatchTopK: the `n_keep` largest positive pre-activations of the batch (fewer if fewer are positive).

    Ties at the threshold are all kept. `floor` is a guess below it that spares sorting the rest; a guess
    that is too high is noticed and dropped, so that the result never depends on it.
    """
    guessed = isinstance(floor, torch.Tensor) or floor > 0
    for share in GUESSES if guessed else (0.0,):
        candidates, values = above(pre_TF, share * floor)
        if len(candidates) >= n_keep:
            break
    threshold: float | torch.Tensor = 0.0
    if len(candidates) > n_keep:
        threshold = nth_largest(values, n_keep)
        kept_N = (values >= threshold).nonzero()[:, 0]
        candidates, values = candidates[kept_N], values[kept_N]
    elif len(candidates):
        threshold = number(values.min())
    return FeatureSelection(pattern_of(candidates, *pre_TF.shape), threshold, values)


def above(pre_TF: torch.Tensor, level: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the flattened matrix of the values above a level, and the values, [N] each. The level may
    be one a feature, [F]."""
    if (kernels := _kernels(pre_TF)) is not None:
        return kernels.above(pre_TF, level)
    places = (pre_TF > level).flatten().nonzero()[:, 0]
    return places, pre_TF.flatten()[places]


def nth_largest(values_N: torch.Tensor, n: int) -> float | torch.Tensor:
    """The n-th largest of some values."""
    place = len(values_N) - n
    if values_N.is_cuda:  # `kthvalue` would search with one of a card's many processors
        return values_N.topk(n, sorted=False).values.amin()
    return float(np.partition(values_N.detach().numpy(), place)[place])  # many times faster on a CPU


def select_above(pre_TF: torch.Tensor, level: float | torch.Tensor) -> FeatureSelection:
    """The positive pre-activations that reach `level`: a part of a selection made over more tokens."""
    # What is above the next smaller number is at the level or above it.
    if isinstance(level, torch.Tensor):
        below: float | torch.Tensor = torch.nextafter(level, torch.zeros_like(level)).clamp(min=0)
    else:
        below = max(0.0, float(np.nextafter(np.float32(level), np.float32(0.0))))
    places, values = above(pre_TF, below)
    return FeatureSelection(pattern_of(places, *pre_TF.shape), level, values)


def select_tokens(pre_TF: torch.Tensor, k: int) -> FeatureSelection:
    """TopK: the `k` largest positive pre-activations of each token."""
    if (kernels := _kernels(pre_TF)) is not None:
        count_T, feature_N, value_N = kernels.tops(pre_TF, k)
        token_N = _repeated(count_T, k)
        start_T1 = torch.cat([count_T.new_zeros(1), count_T.cumsum(0)])
        pattern = Pattern(start_T1, feature_N, token_N)
        return FeatureSelection(pattern, _mean_smallest(start_T1, value_N, k), value_N)
    top = pre_TF.topk(k, dim=1)
    mask_TF = torch.zeros_like(pre_TF, dtype=torch.bool).scatter(1, top.indices, top.values > 0)
    pattern = pattern_of(mask_TF.flatten().nonzero()[:, 0], *pre_TF.shape)
    value_N = pre_TF[pattern.token_N, pattern.feature_N]
    if pre_TF.is_cuda:  # 0 for a token that has room for more
        return FeatureSelection(pattern, top.values[:, -1].relu().mean(), value_N)
    return FeatureSelection(pattern, _mean_smallest(pattern.start_T1, value_N, k), value_N)


def _mean_smallest(start_T1: torch.Tensor, value_N: torch.Tensor, k: int) -> float:
    """The smallest kept value of each token, on average; 0 for a token that has room for more."""
    full_T = start_T1.diff() == k
    if bool(full_T.all()):
        return float(value_N.view(-1, k).amin(1).mean())
    full_N = full_T.repeat_interleave(start_T1.diff())
    return float(value_N[full_N].view(-1, k).amin(1).sum()) / len(full_T)


def _repeated(count_T: torch.Tensor, k: int) -> torch.Tensor:
    """Every token as often as it counts; most often all do k times, which takes no search."""
    token_T = torch.arange(len(count_T))
    if len(count_T) and int(count_T.min()) == k:
        return token_T[:, None].expand(-1, k).flatten()
    return torch.repeat_interleave(token_T, count_T)


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
    value_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Σ over the selected features of (W_enc x + b_enc)_i W_dec[i], [T, d], with gradients to the weights.

    `pre_TF` are the pre-activations that the selection was made on (no gradient needed), `value_N` those
    selected, where they are known.
    """
    if sparse_kernels(x_Td.device):
        if value_N is None:
            value_N = pre_TF.detach()[pattern.token_N, pattern.feature_N]
        return _SparseCode.apply(x_Td, value_N, None, pattern, W_enc_Fd, b_enc_F, W_dec_Fd)
    few = FEW_ON_A_CARD if pre_TF.is_cuda else FEW
    if len(pattern.feature_N) * few <= pre_TF.numel():
        if value_N is None:
            value_N = pre_TF.detach()[pattern.token_N, pattern.feature_N]
        return decode_rows(x_Td, value_N, pattern.start_T1, pattern.feature_N, W_enc_Fd, b_enc_F, W_dec_Fd)
    gate_TF = torch.zeros_like(pre_TF, dtype=torch.bool)
    gate_TF[pattern.token_N, pattern.feature_N] = True
    return (nnf.linear(x_Td, W_enc_Fd, b_enc_F) * gate_TF) @ W_dec_Fd


def decode_soft(
    x_Td: torch.Tensor,
    n: int,
    scale: torch.Tensor,
    W_enc_Fd: torch.Tensor,
    b_enc_F: torch.Tensor,
    W_dec_Fd: torch.Tensor,
) -> torch.Tensor:
    """Σ over each token's `n` largest pre-activations p, of any sign, of scale softplus(p / scale) W_dec[i],
    [T, d], with gradients to the weights (not to `scale`, a number)."""
    if not sparse_kernels(x_Td.device):
        pre_TF = nnf.linear(x_Td, W_enc_Fd, b_enc_F)
        top = pre_TF.topk(n, dim=1)
        soft_Tn = scale * nnf.softplus(top.values / scale)
        return torch.zeros_like(pre_TF).scatter(1, top.indices, soft_Tn) @ W_dec_Fd
    with torch.no_grad():
        pre_TF = linear(x_Td, W_enc_Fd, b_enc_F)
        if (kernels := _kernels(pre_TF)) is not None:
            feature_Tn, value_Tn = kernels.largest(pre_TF, n)
        else:
            feature_Tn = pre_TF.topk(n, dim=1).indices.sort(dim=1).values
            value_Tn = pre_TF.gather(1, feature_Tn)
        start_T1 = torch.arange(len(x_Td) + 1) * n
        token_N = _repeated(torch.full((len(x_Td),), n), n)
        soft_N = value_Tn.flatten() / scale
        value_N, slope_N = scale * nnf.softplus(soft_N), soft_N.sigmoid()
    pattern = Pattern(start_T1, feature_Tn.flatten(), token_N)
    return _SparseCode.apply(x_Td, value_N, slope_N, pattern, W_enc_Fd, b_enc_F, W_dec_Fd)


def _pair_kernels(
    pattern: Pattern, x_Td: torch.Tensor, W_dec_Fd: torch.Tensor, *others: torch.Tensor
) -> ModuleType | None:
    """The compiled loops over pairs, where they are at hand and pay."""
    fits = all(tensor.dtype == torch.float32 for tensor in (x_Td, W_dec_Fd, *others))
    n_features = len(W_dec_Fd)
    return _compiled() if fits and len(pattern.feature_N) * n_features >= WORTH_COMPILING else None


def _csr(
    start: torch.Tensor, column: torch.Tensor, value: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    with warnings.catch_warnings():  # a test holds our use of them to the dense result
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(start, column, value, shape, check_invariants=False)


class _SparseCode(torch.autograd.Function):
    """decode_selected with compressed rows: forward by tokens, the weights' gradients by features."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_Td: torch.Tensor,
        value_N: torch.Tensor,
        slope_N: torch.Tensor | None,
        pattern: Pattern,
        W_enc_Fd: torch.Tensor,
        b_enc_F: torch.Tensor,
        W_dec_Fd: torch.Tensor,
    ) -> torch.Tensor:
        ctx.pattern, ctx.slope_N = pattern, slope_N  # of the values, in their pre-activations (None: 1)
        ctx.save_for_backward(x_Td, value_N, W_dec_Fd)
        shape = (len(x_Td), len(W_dec_Fd))
        if (kernels := _pair_kernels(pattern, x_Td, W_dec_Fd, value_N)) is not None:
            return kernels.decoded(value_N, W_dec_Fd, pattern.start_T1, pattern.feature_N)
        return _csr(pattern.start_T1, pattern.feature_N, value_N, shape) @ W_dec_Fd

    @staticmethod
    def backward(ctx: Any, g_Td: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (x_Td, value_N, W_dec_Fd), slope_N = ctx.saved_tensors, ctx.slope_N
        start_T1, feature_N, token_N = ctx.pattern
        n_tokens, n_features = len(x_Td), len(W_dec_Fd)
        if (kernels := _pair_kernels(ctx.pattern, x_Td, W_dec_Fd, value_N, g_Td)) is not None:
            g_W_enc, g_b_enc, g_W_dec = kernels.gradients(
                x_Td, g_Td, W_dec_Fd, value_N, start_T1, feature_N, slope_N
            )
            return None, None, None, None, g_W_enc, g_b_enc, g_W_dec
        zeros = _csr(start_T1, feature_N, torch.zeros_like(value_N), (n_tokens, n_features))
        # Only the products at the active pairs: g_t · W_dec[i].
        g_value_N = torch.sparse.sampled_addmm(zeros, g_Td.contiguous(), W_dec_Fd.T, beta=0.0).values()
        if slope_N is not None:
            g_value_N = g_value_N * slope_N
        order = feature_N.argsort(stable=True)  # the pattern's transpose: the tokens of each feature
        counts_F = torch.bincount(feature_N, minlength=n_features)
        start_F1 = torch.cat([counts_F.new_zeros(1), counts_F.cumsum(0)])
        token_of_N, g_of_N, value_of_N = token_N[order], g_value_N[order], value_N[order]
        g_W_enc = _csr(start_F1, token_of_N, g_of_N, (n_features, n_tokens)) @ x_Td
        g_W_dec = _csr(start_F1, token_of_N, value_of_N, (n_features, n_tokens)) @ g_Td
        g_b_enc = torch.zeros_like(W_dec_Fd[:, 0]).index_add_(0, feature_N, g_value_N)
        return None, None, None, None, g_W_enc, g_b_enc, g_W_dec


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
