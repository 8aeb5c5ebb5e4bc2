"""Weights of one block as the tracer wants them: per head, norms taken apart into gain and shift.

Legend: H heads, k head width, d residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from scx_core.language.load import Language


class HeadWeights(NamedTuple):
    """Value and output weights: v_Hk = W_V_Hkd · x + b_V_Hk, attention writes Σ_H v_Hk · W_O_Hkd + b_O_d."""

    W_V_Hkd: torch.Tensor
    b_V_Hk: torch.Tensor
    W_O_Hkd: torch.Tensor
    b_O_d: torch.Tensor


class NormWeights(NamedTuple):
    """y = gain ⊙ centre(x) · scale + shift, with scale = 1/σ. `centred` is false for an RMSNorm."""

    gain_d: torch.Tensor
    shift_d: torch.Tensor
    eps: float
    centred: bool

    def scale(self, x_Td: torch.Tensor) -> torch.Tensor:
        """1/σ of each row, [T]."""
        spread_T = x_Td.var(-1, unbiased=False) if self.centred else x_Td.square().mean(-1)
        return (spread_T + self.eps).rsqrt()

    def fold(self, W_Nd: torch.Tensor) -> torch.Tensor:
        """Read vectors behind the norm become read vectors in front of it, up to the scale (method §5)."""
        folded_Nd = W_Nd * self.gain_d
        return folded_Nd - folded_Nd.mean(-1, keepdim=True) if self.centred else folded_Nd


def _bias(module: Any, size: int) -> torch.Tensor:
    bias = getattr(module, "bias", None)
    return bias if bias is not None else module.weight.new_zeros(size)


def _heads_qkv(lm: Language, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One matrix with rows (head, q|k|v, k): GPT-NeoX."""
    facts = lm.facts
    qkv: Any = lm.part(layer, "qkv")
    shape = (facts.n_heads, 3, facts.head_width)
    return qkv.weight.view(*shape, -1)[:, 2], _bias(qkv, qkv.weight.shape[0]).view(shape)[:, 2]


PACKINGS: dict[str, Callable[[Language, int], tuple[torch.Tensor, torch.Tensor]]] = {"heads_qkv": _heads_qkv}


def head_weights(lm: Language, layer: int) -> HeadWeights:
    """Value and output weights of the attention of one block."""
    W_V_Hkd, b_V_Hk = PACKINGS[lm.facts.family.packing](lm, layer)
    out: Any = lm.part(layer, "attn_out")
    W_O_Hkd = out.weight.T.reshape(lm.facts.n_heads, lm.facts.head_width, -1)
    return HeadWeights(W_V_Hkd, b_V_Hk, W_O_Hkd, _bias(out, out.weight.shape[0]))


def norm_weights(lm: Language, module: Any) -> NormWeights:
    """Gain, shift and kind of a norm of this model."""
    eps = float(getattr(module, "eps", getattr(module, "variance_epsilon", 0.0)))
    return NormWeights(
        module.weight, _bias(module, module.weight.shape[0]), eps, lm.facts.family.norm == "layernorm"
    )
