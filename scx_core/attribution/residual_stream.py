"""The residual stream of a frozen prompt, run forward from its sources: what every read vector reads.

The sum over sources is the original model's own stream, by the definition of the error (method §5), up to
the rounding of its numbers.
Legend: T positions, H heads, k head width, d residual width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attn_read,
    feature_writes,
    mlp_read,
)
from scx_core.attribution.replacement_model import LayerMaps


class LayerStream(NamedTuple):
    """What one block sees: the stream into it, the stream that its MLP reads, and the values of its heads
    without their bias, all in front of the norm's shift and with its 1/σ in the values."""

    into_Td: torch.Tensor
    mlp_reads_Td: torch.Tensor
    value_HTk: torch.Tensor


@torch.no_grad()
def streams(frozen: FrozenPrompt) -> tuple[LayerStream, ...]:
    """The stream at every block of the frozen model. Memory: layers × positions × (2 d + H k)."""
    rep, out = frozen.replacement, []
    into_Td = frozen.embedding_Td
    for maps, layer in zip(rep.layers, frozen.layers, strict=True):
        behind_Td = into_Td + attention_forward(maps, layer, into_Td)[1] + layer.attn_bias_Td
        reads_Td = into_Td if rep.parallel else behind_Td
        out.append(LayerStream(into_Td, reads_Td, head_values(maps, layer, into_Td)))
        into_Td = behind_Td + _mlp(maps, layer, reads_Td)
    return tuple(out)


def head_values(maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor) -> torch.Tensor:
    """Values of the heads for x on the stream into the block, without their bias, [..., H, T, k]."""
    return (x_Td * layer.attn_scale_T[:, None])[..., None, :, :] @ maps.V_Hkd.transpose(1, 2)


def attention_forward(
    maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frozen attention of x [..., T, d] on the stream, without biases: values mixed by the patterns,
    [..., H, T, k], and what is written to the stream, [..., T, d]."""
    mixed_HTk = layer.pattern_HTT @ head_values(maps, layer, x_Td)
    return mixed_HTk, attn_read(layer, mixed_HTk.transpose(-3, -2).flatten(-2) @ maps.O_Hkd.flatten(0, 1))


def skip_forward(maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor) -> torch.Tensor:
    """What the skip term adds to the stream for x [..., T, d] on the stream that the MLP reads."""
    if maps.skip_dd is None:
        return torch.zeros_like(x_Td)
    return mlp_read(layer, (x_Td * layer.mlp_scale_T[:, None]) @ maps.skip_dd.T)


def _mlp(maps: LayerMaps, layer: FrozenLayer, reads_Td: torch.Tensor) -> torch.Tensor:
    """What the replaced MLP and its error add to the stream, [T, d]."""
    constant_Td = mlp_read(layer, maps.dec_bias_d.expand_as(reads_Td))
    added_Td = (layer.error_Td + constant_Td).index_add(0, layer.position_N, feature_writes(maps, layer))
    return added_Td + skip_forward(maps, layer, reads_Td)
