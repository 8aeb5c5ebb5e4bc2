"""Total effects: a target's gradient carried down the frozen model, layer by layer (method §8).

The features' frozen gates are open, so that the effect of a source is the sum over all paths to the target,
direct or through features. Embeddings, errors and biases are the only sources at the end of every path, so
theirs add up to the target. Direct edges, which pass no other feature, are in direct_edges.py.
Legend: R rows, P positions that they can see, T positions, d residual width, F features of a layer, N active
features, S blocks that a layer's features write to; small t and n: some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch

from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attention_back,
    attn_bias,
    mlp_back,
    mlp_read,
    skip_back,
)
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.attribution.residual_stream import GradientRows

ROW_NUMBERS = 8_000_000  # of decoder rows that are copied at a time, about


def block_back(
    frozen: FrozenPrompt, k: int, G_RPd: torch.Tensor, through_RPd: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients on the stream behind block k → those on what its attention writes, and on the stream in front
    of the block, [R, P, d] each.

    `through_RPd`: gradients that passed the block's features, whose gates are frozen (total effects); None
    for direct edges, which pass none.
    """
    rep, maps, f = frozen.replacement, frozen.replacement.layers[k], frozen.layers[k]
    below_RPd = G_RPd
    if through_RPd is not None:
        below_RPd = G_RPd + (through_RPd + skip_back(maps, f, G_RPd))
    elif maps.skip_dd is not None:
        below_RPd = G_RPd + skip_back(maps, f, G_RPd)
    reads_RPd = G_RPd if rep.parallel else below_RPd
    return reads_RPd, below_RPd + attention_back(maps, f, reads_RPd)


class TotalEffects(NamedTuple):
    """Signed effects on the target, in its unit (logits).

    `token_T`, `features` (one [N] per layer, in the order of the frozen layer), `error_LT`, `bias`.
    Σ token_T + Σ error_LT + bias = value of the target; features lie on the way and do not count.
    """

    token_T: torch.Tensor
    features: tuple[torch.Tensor, ...]
    error_LT: torch.Tensor
    bias: float


def _blocks(position_N: torch.Tensor, n_positions: int, width: int) -> list[tuple[slice, slice]]:
    """Blocks of positions, and their active features: all, where those are few."""
    most = max(1, ROW_NUMBERS // width)
    if len(position_N) <= most:
        return [(slice(0, n_positions), slice(0, len(position_N)))]
    step = max(1, n_positions * most // len(position_N))
    starts = [*range(0, n_positions, step), n_positions]
    edges = torch.searchsorted(position_N, torch.tensor(starts, device=position_N.device)).tolist()
    return [(slice(*t), slice(*n)) for t, n in zip(pairwise(starts), pairwise(edges), strict=True)]


def _through_features(
    maps: LayerMaps, frozen: FrozenLayer, read_STd: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients below the frozen gates [T, d], effect of every active feature [N], and of their biases.

    `read_STd`: gradients on the MLPs' outputs that the features write to, their own block's first.
    """
    write_N, parts = torch.zeros_like(frozen.value_N), []
    for at_t, at_n in _blocks(frozen.position_N, *read_STd[0].shape):
        position_n, feature_n = frozen.position_N[at_n], frozen.feature_N[at_n]
        for later, out_Td in enumerate(read_STd):
            write_N[at_n] += (maps.decoder(later)[feature_n] * out_Td[position_n]).sum(-1)
        counts_t = torch.bincount(position_n - at_t.start, minlength=at_t.stop - at_t.start)
        below_td = torch.nn.functional.embedding_bag(
            feature_n,
            maps.enc_Fd,
            counts_t.cumsum(0) - counts_t,
            per_sample_weights=write_N[at_n],
            mode="sum",
        )
        parts.append(below_td)
    below_Td, inner_T = mlp_back(maps, frozen, maps.brought(torch.cat(parts)))
    bias = write_N @ maps.enc_bias_F[frozen.feature_N] + inner_T.sum()
    return below_Td, write_N * frozen.value_N, bias


@torch.no_grad()
def total_effects(frozen: FrozenPrompt, target: GradientRows, target_bias: float) -> TotalEffects:
    """Effects of every source on one row: a gradient at a position of the stream into some block."""
    rep = frozen.replacement
    G_Td = torch.zeros_like(frozen.embedding_Td)
    G_Td[target.position_R] = target.gradient_Rd
    bias = torch.tensor(target_bias, device=G_Td.device, dtype=G_Td.dtype)
    if target.inside:
        maps, layer = rep.layers[target.layer], frozen.layers[target.layer]
        bias = bias + (G_Td * attn_bias(maps, layer)).sum()
        G_Td = G_Td + attention_back(maps, layer, G_Td[None])[0]
    features = [layer.value_N.new_zeros(layer.value_N.shape) for layer in frozen.layers]
    error_LT = G_Td.new_zeros(len(frozen.layers), len(G_Td))
    read_STd: list[torch.Tensor] = []
    for k in range(target.layer - 1, -1, -1):
        maps, layer = rep.layers[k], frozen.layers[k]
        read_STd = [mlp_read(layer, G_Td), *(read_STd if rep.crosses else [])]
        through_Td, features[k], feature_bias = _through_features(maps, layer, read_STd)
        error_LT[k] = (layer.error_Td * G_Td).sum(-1)
        bias = bias + feature_bias + mlp_read(layer, G_Td).sum(0) @ maps.dec_bias_d
        (reads_attention_Td,), (G_Td,) = block_back(frozen, k, G_Td[None], through_Td[None])
        bias = bias + (reads_attention_Td * attn_bias(maps, layer)).sum()
    token_T = (frozen.embedding_Td * G_Td).sum(-1)
    return TotalEffects(token_T, tuple(features), error_LT, float(bias))
