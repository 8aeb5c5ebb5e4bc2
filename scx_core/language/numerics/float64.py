"""What a float64 model needs so that it really computes in float64: Hugging Face casts in two places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from scx_core.language.weights import NormWeights, norm_weights

if TYPE_CHECKING:
    from scx_core.language.loading import Language

# The norms by their names in the facts table.
NORMS = ("attn_norm", "mlp_norm", "attn_post_norm", "mlp_post_norm")


def _keep_masks_finite(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
    """Forward pre-hook of attention: the lowest mask value of float64 becomes that of float32.

    Eager attention takes its softmax in float32, where float64's lowest value is -inf: padding rows, which
    see nothing, would turn into NaN and spread. Fused attention is given what sees what, true or false.
    """
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.is_floating_point():
        kwargs["attention_mask"] = mask.clamp(min=torch.finfo(torch.float32).min)
    return args, kwargs


def _norm_again(norm: NormWeights):
    """Forward hook of an RMSNorm, which Hugging Face computes in float32 whatever it is given."""
    return lambda _module, args, _output: norm.apply(args[0])


def compute_in_float64(lm: Language) -> None:
    """Hook the attention and the norms of a float64 model, for good. Others are left alone."""
    if lm.dtype != torch.float64:
        return
    family, modules = lm.facts.family, [lm.final_norm]
    for layer in range(lm.facts.n_layers):
        lm.part(layer, "attn").register_forward_pre_hook(_keep_masks_finite, with_kwargs=True)
        modules += [lm.part(layer, name) for name in NORMS if getattr(family, name)]
    for module in modules:
        module.register_forward_hook(_norm_again(norm_weights(family.norm, module)))
