"""Weights of one block as the tracer wants them: per head, norms taken apart into gain and shift.

Legend: H heads (of an MLP: its neurons), k head width, d residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from scx_core.language.architectures import Norm, Packing
from scx_core.language.numerics.held_in_bfloat16 import wide
from scx_core.language.numerics.onednn import linear

if TYPE_CHECKING:
    from scx_core.language.loading import Language


class HeadWeights(NamedTuple):
    """Value and output weights: v_Hk = W_V_Hkd · x + b_V_Hk, attention writes Σ_H v_Hk · W_O_Hkd + b_O_d.

    One entry a query head: heads that share a value head hold a copy each.
    """

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

    def apply(self, x_Td: torch.Tensor) -> torch.Tensor:
        """The norm itself, in the precision of x."""
        mean_T = x_Td.mean(-1, keepdim=True) if self.centred else 0.0
        return (x_Td - mean_T) * self.scale(x_Td)[..., None] * self.gain_d + self.shift_d

    def fold(self, W_Nd: torch.Tensor) -> torch.Tensor:
        """Directions that read behind the norm as directions in front of it, up to the scale (method §5)."""
        folded_Nd = W_Nd * self.gain_d
        return folded_Nd - folded_Nd.mean(-1, keepdim=True) if self.centred else folded_Nd

    def fold_behind(self, W_Nd: torch.Tensor) -> torch.Tensor:
        """Decoder vectors in front of an RMSNorm as decoder vectors behind it, up to the scale."""
        return W_Nd * self.gain_d


class MlpWeights(NamedTuple):
    """y = n W_out + b_out with the neurons n = g ⊙ (W_in x + b_in).

    g is act(W_gate x + b_gate) of a gated MLP, else act(u)/u of the neuron's own input u. With g held at its
    value in a prompt, y is an affine function of x that is y itself there.
    """

    W_in_Hd: torch.Tensor
    b_in_H: torch.Tensor
    W_out_Hd: torch.Tensor
    b_out_d: torch.Tensor
    act: Callable[[torch.Tensor], torch.Tensor]
    W_gate_Hd: torch.Tensor | None = None
    b_gate_H: torch.Tensor | None = None

    def neurons(self, x_Td: torch.Tensor) -> torch.Tensor:
        """What the last map receives, [..., H]."""
        read_TH = linear(x_Td, self.W_in_Hd, self.b_in_H)
        if self.W_gate_Hd is None:
            return self.act(read_TH)
        return self.act(linear(x_Td, self.W_gate_Hd, self.b_gate_H)) * read_TH

    def gates(self, x_Td: torch.Tensor) -> torch.Tensor:
        """g at these inputs, [..., H]; 0 where the neuron's own input is 0."""
        if self.W_gate_Hd is not None:
            return self.act(linear(x_Td, self.W_gate_Hd, self.b_gate_H))
        read_TH = linear(x_Td, self.W_in_Hd, self.b_in_H)
        return torch.where(read_TH == 0, 0.0, self.act(read_TH) / read_TH)

    def __call__(self, x_Td: torch.Tensor) -> torch.Tensor:
        """The MLP, [..., d]."""
        return linear(self.neurons(x_Td), self.W_out_Hd.T) + self.b_out_d

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> MlpWeights:
        """A copy on another device or in another precision."""
        parts = (
            part.to(device=device, dtype=dtype) if isinstance(part, torch.Tensor) else part for part in self
        )
        return MlpWeights._make(parts)


class _LinearMap(NamedTuple):
    """y = weight_OI · x + bias_O, however the module stores it."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor


def _linear(lm: Language, layer: int, name: str) -> _LinearMap:
    module: Any = lm.part(layer, name)
    weight_OI = wide(module.weight.T if lm.facts.family.inputs_first else module.weight)
    return _LinearMap(weight_OI, _bias(module, weight_OI.shape[0]))


def _bias(module: Any, size: int) -> torch.Tensor:
    bias = getattr(module, "bias", None)
    return wide(bias if bias is not None else module.weight.new_zeros(size))


# Where the values are among the rows of the matrix, [value heads, k] of row numbers for each packing.
_Rows = Callable[[int, int], torch.Tensor]
PACKINGS: dict[Packing, _Rows] = {
    "heads_qkv": lambda heads, k: torch.arange(heads * 3 * k).view(heads, 3, k)[:, 2],
    "blocks_qkv": lambda heads, k: torch.arange(3 * heads * k).view(3, heads, k)[2],
    "values_only": lambda heads, k: torch.arange(heads * k).view(heads, k),
}


def head_weights(lm: Language, layer: int) -> HeadWeights:
    """Value and output weights of the attention of one block."""
    facts = lm.facts
    values, out = _linear(lm, layer, "values"), _linear(lm, layer, "attn_out")
    row_Hk = PACKINGS[facts.family.packing](facts.n_value_heads, facts.head_width)
    row_Hk = row_Hk.repeat_interleave(facts.n_heads // facts.n_value_heads, 0).to(values.bias_O.device)
    W_O_Hkd = out.weight_OI.T.reshape(facts.n_heads, facts.head_width, -1)
    return HeadWeights(values.weight_OI[row_Hk], values.bias_O[row_Hk], W_O_Hkd, out.bias_O)


def norm_weights(kind: Norm, module: Any) -> NormWeights:
    """Gain, shift and kind of a norm module."""
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    gain_d = wide(module.weight)
    if kind == "rmsnorm_plus_one":
        gain_d = 1.0 + gain_d
    return NormWeights(gain_d, _bias(module, len(gain_d)), float(eps), kind == "layernorm")


def mlp_weights(lm: Language, layer: int) -> MlpWeights:
    """The weights of the MLP of one block, without gradients."""
    first, last = _linear(lm, layer, "mlp_in"), _linear(lm, layer, "mlp_out")
    gate = _linear(lm, layer, "mlp_gate") if lm.facts.family.mlp_gate else None
    found = MlpWeights(
        first.weight_OI.detach(),
        first.bias_O.detach(),
        last.weight_OI.T.detach(),
        last.bias_O.detach(),
        lm.part(layer, "mlp_act"),
    )
    if gate is None:
        return found
    return found._replace(W_gate_Hd=gate.weight_OI.detach(), b_gate_H=gate.bias_O.detach())


def neuron_writes(lm: Language, layer: int) -> torch.Tensor:
    """What each neuron of an MLP writes when it is 1, [neurons, d]."""
    return _linear(lm, layer, "mlp_out").weight_OI.T
