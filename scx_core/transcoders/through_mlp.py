"""SAEs of an MLP's output as features of what the MLP receives: the MLP stands in front of the encoder.

An SAE's feature reads y = MLP(x), which is no linear function of x. Yet with the MLP's gates held at their
values in a prompt (weights.MlpWeights) y is affine in x, and so is every pre-activation: such features can
be traced exactly, like transcoders', in a replacement model in which the gates are frozen as well. What a
feature reads then differs from token to token: there are no weights between features without a prompt.
Legend: T tokens, d residual width, F features, H neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.weights import MlpWeights, mlp_weights
from scx_core.transcoders.module import Transcoder, TranscoderSet


@dataclass(frozen=True, eq=False)
class ThroughMlp(Transcoder):
    """A transcoder whose encoder reads MLP(x), not x: `mlp` are the MLP's weights."""

    mlp: MlpWeights | None = None

    def pre(self, x_Td: torch.Tensor) -> torch.Tensor:
        """Pre-activations [..., F] of what the MLP receives."""
        assert self.mlp is not None  # given by through_mlp
        return super().pre(self.mlp(x_Td.to(self.W_enc_Fd.dtype)))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another precision, the MLP's weights too."""
        assert self.mlp is not None  # given by through_mlp
        return replace(super().to(device, dtype), mlp=self.mlp.to(device, dtype))


def through_mlp(lm: Language, saes: TranscoderSet) -> TranscoderSet:
    """SAEs of the MLPs' outputs as a set that reads the MLPs' inputs and can be traced.

    Activations and reconstructions are those of the SAEs. Raises ScxError for a set that reads inputs.
    """
    if saes.reads != "output":
        raise ScxError(f"{saes.name} reads the MLPs' inputs already.", "Give SAEs of their outputs.")
    layers = tuple(_behind(coder, mlp_weights(lm, k)) for k, coder in enumerate(saes.layers))
    return replace(saes, layers=layers, reads="input")


def _behind(coder: Transcoder, mlp: MlpWeights) -> ThroughMlp:
    fields: dict[str, Any] = {name: getattr(coder, name) for name in Transcoder.__dataclass_fields__}
    weight = coder.W_enc_Fd
    return ThroughMlp(**fields, mlp=mlp.to(weight.device, weight.dtype))
