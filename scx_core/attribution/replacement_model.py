"""The frozen replacement model, part 1: what does not depend on the prompt.

Every linear map that an edge can pass through, with the norms' gains folded in and the biases gathered, so
that the frozen model of a prompt (local_replacement_model.py) only adds attention patterns, 1/σ and the
active features.
Legend: L layers, H heads, k head width, d residual width, F features of a layer, S layers after one,
V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.weights import MlpWeights, NormWeights, head_weights, norm_weights
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.transcoders.check import check_set
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.through_mlp import ThroughMlp


class LayerMaps(NamedTuple):
    """One block. Read matrices act on the residual stream in front of the norm, times that prompt's 1/σ.

    Where norms stand behind the branches, everything that a branch writes (O, dec, skip, their biases)
    is behind that norm's gain already, and is still to be multiplied by that prompt's 1/σ of it.
    Attention adds, regardless of the tokens, `out_bias_d` (b_O) and `value_bias_Hd` a head: the value biases
    and the norm's shift carried through W_O, times what a row of the pattern adds up to.
    `enc_Fd` are the encoders as they are, behind the norm: `reads` brings those asked for in front of it, as
    a second copy of all would be as large as the model.
    `through`: the MLP's own maps behind the norm, where features read its output (SAEs); `enc_Fd` and
    `enc_bias_F` then act on that output.
    `cross_SFd`: of a cross-layer set, what the features write to the MLPs' outputs of the S later blocks.
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
    attn_post_norm: NormWeights | None
    mlp_post_norm: NormWeights | None
    transcoder: Transcoder
    through: MlpWeights | None = None
    cross_SFd: torch.Tensor | None = None

    def reads(self, at: int | slice | torch.Tensor) -> torch.Tensor:
        """What features read of the stream in front of the norm, up to its scale, or of the MLP's output."""
        return self.brought(self.enc_Fd[at])

    def brought(self, read_Nd: torch.Tensor) -> torch.Tensor:
        """Rows of encoders, or sums of them, in front of the norm."""
        return read_Nd if self.through else self.mlp_norm.fold(read_Nd)

    def decoder(self, later: int) -> torch.Tensor:
        """What the features write to the MLP's output of their own block (0), or of so many blocks later, in
        a cross-layer set."""
        if later == 0:
            return self.dec_Fd
        assert self.cross_SFd is not None  # only such sets are asked
        return self.cross_SFd[later - 1]


class Replacement(NamedTuple):
    """The model with every MLP replaced by its transcoder, ready to be frozen at a prompt."""

    lm: Language
    transcoders: TranscoderSet
    layers: tuple[LayerMaps, ...]
    final_norm: NormWeights

    @property
    def crosses(self) -> bool:
        """Whether features write to later blocks as well."""
        return self.transcoders.form == "cross-layer"

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a block read the same residual stream (method §1)."""
        return self.lm.facts.residual == "parallel"


def _norm(lm: Language, layer: int, name: str) -> NormWeights:
    return norm_weights(lm.facts.family.norm, lm.part(layer, name))


def _behind(norm: NormWeights | None, W_Nd: torch.Tensor) -> torch.Tensor:
    return W_Nd if norm is None else norm.fold_behind(W_Nd)


def _layer(lm: Language, layer: int, coder: Transcoder) -> LayerMaps:
    heads, family = head_weights(lm, layer), lm.facts.family
    attn_norm, mlp_norm = _norm(lm, layer, "attn_norm"), _norm(lm, layer, "mlp_norm")
    attn_post = _norm(lm, layer, "attn_post_norm") if family.attn_post_norm else None
    mlp_post = _norm(lm, layer, "mlp_post_norm") if family.mlp_post_norm else None
    O_Hkd = _behind(attn_post, heads.W_O_Hkd)
    value_bias_Hk = heads.W_V_Hkd @ attn_norm.shift_d + heads.b_V_Hk
    skip_dd, dec_bias_d = coder.W_skip_dd, coder.b_dec_d
    if skip_dd is not None:
        dec_bias_d = dec_bias_d + skip_dd @ mlp_norm.shift_d
        skip_dd = _behind(mlp_post, mlp_norm.fold(skip_dd).T).T
    through = _through(coder, mlp_norm)
    enc_bias_F = coder.b_enc_F + coder.W_enc_Fd @ (through.b_out_d if through else mlp_norm.shift_d)
    return LayerMaps(
        V_Hkd=attn_norm.fold(heads.W_V_Hkd),
        O_Hkd=O_Hkd,
        value_bias_Hd=torch.einsum("hk,hkd->hd", value_bias_Hk, O_Hkd),
        out_bias_d=_behind(attn_post, heads.b_O_d),
        enc_Fd=coder.W_enc_Fd,
        enc_bias_F=enc_bias_F,
        dec_Fd=_behind(mlp_post, coder.W_dec_Fd),
        dec_bias_d=_behind(mlp_post, dec_bias_d),
        skip_dd=skip_dd,
        attn_norm=attn_norm,
        mlp_norm=mlp_norm,
        attn_post_norm=attn_post,
        mlp_post_norm=mlp_post,
        transcoder=coder,
        through=through,
    )


def _through(coder: Transcoder, norm: NormWeights) -> MlpWeights | None:
    """The MLP in front of an SAE's encoder, its first map in front of the norm (up to the scale)."""
    if not isinstance(coder, ThroughMlp):
        return None
    mlp = coder.mlp
    assert mlp is not None  # given by through_mlp
    return mlp._replace(W_in_Hd=norm.fold(mlp.W_in_Hd), b_in_H=mlp.b_in_H + mlp.W_in_Hd @ norm.shift_d)


@torch.no_grad()
def replacement(lm: Language, transcoders: TranscoderSet) -> Replacement:
    """Combine a model and its transcoders, cross-layer ones too. Raises ScxError when their layers or widths
    do not match, or the features read the MLPs' outputs (SAEs; `through_mlp` makes such a set readable)."""
    if transcoders.form == "sae":
        raise ScxError(
            f"{transcoders.name} is a set of SAEs: circuits are traced through transcoders.",
            "Choose a set of transcoders that read the MLPs' inputs.",
        )
    check_set(lm, transcoders)
    facts = lm.facts
    moved = transcoders.to(lm.device, lm.dtype)
    layers = tuple(_layer(lm, layer, coder) for layer, coder in enumerate(moved.layers))
    if isinstance(moved, CrossLayerSet):
        pairs = zip(layers, moved.cross, strict=True)
        layers = tuple(maps._replace(cross_SFd=_crossing(layers, m, W)) for m, (maps, W) in enumerate(pairs))
    return Replacement(lm, moved, layers, norm_weights(facts.family.norm, lm.final_norm))


def _crossing(layers: tuple[LayerMaps, ...], layer: int, W_SFd: torch.Tensor) -> torch.Tensor:
    """Cross terms of a layer's features behind the gains of the later blocks' norms, if there are any."""
    norms = [maps.mlp_post_norm for maps in layers[layer + 1 :]]
    if not any(norms):
        return W_SFd
    return torch.stack([_behind(norm, W_Fd) for norm, W_Fd in zip(norms, W_SFd, strict=True)])


def check_feature(rep: Replacement, layer: int, feature: int) -> None:
    """Raise ScxError when the set has no such feature."""
    if not 0 <= layer < len(rep.layers):
        raise ScxError(f"There is no layer {layer}.", f"Layers run from 0 to {len(rep.layers) - 1}.")
    n_features = len(rep.layers[layer].enc_Fd)
    if not 0 <= feature < n_features:
        raise ScxError(f"Layer {layer} has no feature {feature}.", f"They run from 0 to {n_features - 1}.")
