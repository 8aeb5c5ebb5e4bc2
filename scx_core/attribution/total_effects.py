"""Total effects: one backward pass of the target's read vector through all frozen gates (method §8).

Total effect of a source = sum over all paths to the target, direct or through features. Embeddings,
errors and biases are the only sources at the end of every path, so theirs add up to the target.
Legend: T positions, d residual width, F features of a layer, N active features, G gene spans.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attention_back,
    mlp_read,
    skip_back,
)
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.attribution.source_vectors import Rows


class TotalEffects(NamedTuple):
    """Signed effects on the target, in its unit (logits).

    `token_T`, `features` (one [N] per layer, in the order of the frozen layer), `error_LT`, `bias`.
    Σ token_T + Σ error_LT + bias = value of the target; features lie on the way and do not count.
    """

    token_T: torch.Tensor
    features: tuple[torch.Tensor, ...]
    error_LT: torch.Tensor
    bias: float


def _through_features(
    maps: LayerMaps, frozen: FrozenLayer, G_Td: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Read vectors below the frozen gates [T, d], effect of every active feature [N], and of their biases."""
    out_Td = mlp_read(frozen, G_Td)
    write_N = (maps.dec_Fd[frozen.feature_N] * out_Td[frozen.position_N]).sum(-1)
    counts_T = torch.bincount(frozen.position_N, minlength=len(G_Td))
    below_Td = torch.nn.functional.embedding_bag(
        frozen.feature_N,
        maps.enc_Fd,
        counts_T.cumsum(0) - counts_T,
        per_sample_weights=write_N,
        mode="sum",
    )
    bias = write_N @ maps.enc_bias_F[frozen.feature_N]
    return below_Td * frozen.mlp_scale_T[:, None], write_N * frozen.value_N, bias


@torch.no_grad()
def total_effects(frozen: FrozenPrompt, target: Rows, read_bias: float) -> TotalEffects:
    """Effects of every source on one row: a read vector at a position of the stream into some block."""
    rep = frozen.replacement
    G_Td = torch.zeros_like(frozen.embedding_Td)
    G_Td[target.position_R] = target.read_Rd
    bias = torch.tensor(read_bias, device=G_Td.device, dtype=G_Td.dtype)
    if target.inside:
        maps, layer = rep.layers[target.layer], frozen.layers[target.layer]
        bias = bias + (G_Td * layer.attn_bias_Td).sum()
        G_Td = G_Td + attention_back(maps, layer, G_Td[None])[0]
    features = [layer.value_N.new_zeros(layer.value_N.shape) for layer in frozen.layers]
    error_LT = G_Td.new_zeros(len(frozen.layers), len(G_Td))
    for k in range(target.layer - 1, -1, -1):
        maps, layer = rep.layers[k], frozen.layers[k]
        below_Td, features[k], feature_bias = _through_features(maps, layer, G_Td)
        error_LT[k] = (layer.error_Td * G_Td).sum(-1)
        bias = bias + feature_bias + mlp_read(layer, G_Td).sum(0) @ maps.dec_bias_d
        below_Td = below_Td + skip_back(maps, layer, G_Td)
        reads_attention_Td = G_Td if rep.parallel else G_Td + below_Td
        bias = bias + (reads_attention_Td * layer.attn_bias_Td).sum()
        G_Td = G_Td + below_Td + attention_back(maps, layer, reads_attention_Td[None])[0]
    token_T = (frozen.embedding_Td * G_Td).sum(-1)
    return TotalEffects(token_T, tuple(features), error_LT, float(bias))
