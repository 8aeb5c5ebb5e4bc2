"""The active features of a JumpReLU gate, looked for in bfloat16 and decided in float32.

Processors with tile instructions (AMX) multiply bfloat16 several times as fast as float32. One such product
gives an upper bound of every pre-activation less its threshold: rounding the factors moves a product by
little more than 2⁻⁷ ‖x‖ ‖w‖ (Cauchy and Schwarz), which another column adds. Where the bound is not above 0
the feature is silent; the few others are multiplied in float32. No active feature is missed, so that the
result is that of the whole float32 product, to the order of its sums.
Legend: T tokens, F features, d width, N pairs of a token and a feature.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch

# Two roundings to 8 bits of mantissa, and more than what sums of float32 are off by.
OFF = 2.0**-7 + 2.0**-12
UP, SLACK = 1 + 2.0**-7, 2.0**-15  # more than a rounding of one number to bfloat16, and of two parts of one
COLUMNS = 32  # beside those of the width: the processor takes so many at a time
FEW = 16  # with more than one candidate in so many, the whole product costs no more


@lru_cache(maxsize=1)
def at_hand() -> bool:
    """Whether this processor has the tiles, and this PyTorch the products."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # an old PyTorch does not say
    return bool(known.get("amx_bf16")) and torch.backends.mkldnn.is_available()


def _bounds(
    x_Td: torch.Tensor, W_Fd: torch.Tensor, b_F: torch.Tensor, threshold_F: torch.Tensor
) -> torch.Tensor:
    """No smaller than pre-activation less threshold, bfloat16 [T, F]; the sign is right after rounding."""
    d = x_Td.shape[1]
    over_F = b_F - threshold_F
    over_F = over_F + over_F.abs() * SLACK
    high_F = over_F.bfloat16()
    read = x_Td.new_zeros(len(x_Td), d + COLUMNS, dtype=torch.bfloat16)
    write = W_Fd.new_zeros(len(W_Fd), d + COLUMNS, dtype=torch.bfloat16)
    read[:, :d], write[:, :d] = x_Td, W_Fd
    read[:, d], write[:, d] = x_Td.norm(dim=1) * (OFF * UP), W_Fd.norm(dim=1) * UP
    read[:, d + 1 : d + 3] = 1.0
    write[:, d + 1], write[:, d + 2] = high_F, over_F - high_F + over_F.abs() * SLACK
    return torch.nn.functional.linear(read, write)


@torch.no_grad()
def screened(
    x_Td: torch.Tensor, W_Fd: torch.Tensor, b_F: torch.Tensor, threshold_F: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Position, feature and pre-activation [N] of the pairs above their thresholds, in that order, of float32
    x [T, d]; None where candidates are too many for this to pay."""
    n_tokens, n_features = len(x_Td), len(W_Fd)
    # A number above 0 is one above 0 as an integer of its bits too, which is compared faster.
    above_TF = _bounds(x_Td, W_Fd, b_F, threshold_F).view(torch.int16) > 0
    position_N, feature_N = above_TF.nonzero(as_tuple=True)
    if len(feature_N) * FEW > n_tokens * n_features:
        return None
    counts_T = torch.bincount(position_N, minlength=n_tokens)
    start_T1 = torch.cat([counts_T.new_zeros(1), counts_T.cumsum(0)])
    zero_N = x_Td.new_zeros(len(feature_N))
    with warnings.catch_warnings():  # a test holds our use of them to the dense result
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        places = torch.sparse_csr_tensor(
            start_T1, feature_N, zero_N, (n_tokens, n_features), check_invariants=False
        )
        value_N = torch.sparse.sampled_addmm(places, x_Td.contiguous(), W_Fd.T, beta=0.0).values()
    value_N = value_N + b_F[feature_N]
    kept_N = ((value_N > threshold_F[feature_N]) & (value_N != 0)).nonzero()[:, 0]
    return position_N[kept_N], feature_N[kept_N], value_N[kept_N]
