"""The frozen replacement model, part 1: what does not depend on the prompt.

Every linear map that an edge can pass through, with the norms' gains folded in and the biases gathered, so
that the frozen model of a prompt (frozen.py) only adds attention patterns, 1/σ and the active features.
Legend: L layers, H heads, k head width, d residual width, F features of a layer, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.weights import NormWeights, head_weights, norm_weights
from scx_core.transcoders import Transcoder, TranscoderSet


class LayerMaps(NamedTuple):
    """One block. Read matrices act on the residual stream in front of the norm, times that prompt's 1/σ.

    Attention adds, regardless of the tokens, `out_bias_d` (b_O) and `value_bias_Hd` a head: the value biases
    and the norm's shift carried through W_O, times what a row of the pattern adds up to.
    """

    V_Hkd: torch.Tensor
    O_Hkd: torch.Tensor
    value_bias_Hd: torch.Tensor
    out_bias_d: torch.Tensor
    enc_Fd: torch.Tensor
    enc_bias_F: torch.Tensor
    dec_Fd: torch.Tensor
    dec_bias_d: torch.Tensor
    skip_dd: torch.Tensor | None
    attn_norm: NormWeights
    mlp_norm: NormWeights
    transcoder: Transcoder


class Replacement(NamedTuple):
    """The model with every MLP replaced by its transcoder, ready to be frozen at a prompt."""

    lm: Language
    transcoders: TranscoderSet
    layers: tuple[LayerMaps, ...]
    final_norm: NormWeights

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a block read the same residual stream (method §1)."""
        return self.lm.facts.residual == "parallel"


def _layer(lm: Language, layer: int, coder: Transcoder) -> LayerMaps:
    heads = head_weights(lm, layer)
    attn_norm = norm_weights(lm, lm.part(layer, "attn_norm"))
    mlp_norm = norm_weights(lm, lm.part(layer, "mlp_norm"))
    value_bias_Hk = heads.W_V_Hkd @ attn_norm.shift_d + heads.b_V_Hk
    skip_dd, dec_bias_d = coder.W_skip_dd, coder.b_dec_d
    if skip_dd is not None:
        dec_bias_d = dec_bias_d + skip_dd @ mlp_norm.shift_d
        skip_dd = mlp_norm.fold(skip_dd)
    return LayerMaps(
        V_Hkd=attn_norm.fold(heads.W_V_Hkd),
        O_Hkd=heads.W_O_Hkd,
        value_bias_Hd=torch.einsum("hk,hkd->hd", value_bias_Hk, heads.W_O_Hkd),
        out_bias_d=heads.b_O_d,
        enc_Fd=mlp_norm.fold(coder.W_enc_Fd),
        enc_bias_F=coder.b_enc_F + coder.W_enc_Fd @ mlp_norm.shift_d,
        dec_Fd=coder.W_dec_Fd,
        dec_bias_d=dec_bias_d,
        skip_dd=skip_dd,
        attn_norm=attn_norm,
        mlp_norm=mlp_norm,
        transcoder=coder,
    )


@torch.no_grad()
def replacement(lm: Language, transcoders: TranscoderSet) -> Replacement:
    """Combine a model and its transcoders. Raises ScxError when their layers or widths do not match."""
    facts, n = lm.facts, len(transcoders.layers)
    width = transcoders.layers[0].W_enc_Fd.shape[1] if n else 0
    if n != facts.n_layers or width != facts.width:
        raise ScxError(
            f"The transcoder set has {n} layers of width {width}, "
            f"the model {facts.n_layers} of width {facts.width}.",
            "Choose the transcoders that were trained on this model.",
        )
    moved = transcoders.to(lm.device, lm.dtype)
    layers = tuple(_layer(lm, layer, coder) for layer, coder in enumerate(moved.layers))
    return Replacement(lm, moved, layers, norm_weights(lm, lm.final_norm))
