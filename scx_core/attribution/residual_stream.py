"""The residual stream of a frozen prompt: what every block writes to it, and its forward run (method §5).

A target reads the stream (`GradientRows`), a source writes to it (`Sources`). The sum over all sources is the
original model's own stream, by the definition of the error, up to the rounding of its numbers.
Legend: R rows of a batch, T positions, H heads, k head width, d residual width, N active features, K places
of a padded row of features, Q such rows, S = K + 2.
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

# Writes of all layers are kept up to this size; beyond, a layer's are made again for every batch.
KEPT_BYTES = 400_000_000


class GradientRows(NamedTuple):
    """Gradients [R, d] on the stream that enters block `layer`, at one position each, sorted by it.

    Rows of a batch stand for themselves; a target that reads at several positions is the sum of its rows, no
    two of which share a position (backward.target_edges).
    `inside`: they read behind the attention of block `layer` (the MLP of a sequential block).
    """

    gradient_Rd: torch.Tensor
    position_R: torch.Tensor
    layer: int
    inside: bool = False


class PaddedRows(NamedTuple):
    """Where a layer's active features stand in its padded writes: row and place in the row of each, [N].

    Tokens have few active features or many, so a position takes as many rows of K places as it needs:
    `position_Q` of every row, in order, and `first_T`, the first row of every position.
    """

    row_N: torch.Tensor
    slot_N: torch.Tensor
    position_Q: torch.Tensor
    first_T: torch.Tensor
    width: int


class Sources:
    """The writes of every block of one prompt, made when asked for. `padded`: one a layer."""

    def __init__(self, frozen: FrozenPrompt) -> None:
        self.frozen = frozen
        self.padded = [_padded_rows(f, frozen.n_positions) for f in frozen.layers]
        size = frozen.embedding_Td.element_size() * frozen.embedding_Td.shape[1]
        whole = sum(len(padded.position_Q) * (padded.width + 2) * size for padded in self.padded)
        self._kept: dict[int, torch.Tensor] | None = {} if whole < KEPT_BYTES else None

    def writes(self, layer: int) -> torch.Tensor:
        """What a block adds to the stream, by padded row, [Q, K + 2, d]: the active features, padded;
        in a position's first row, the reconstruction error and what it adds whatever the tokens are."""
        if self._kept is None:
            return self._make(layer)
        if layer not in self._kept:
            self._kept[layer] = self._make(layer)
        return self._kept[layer]

    def rows_up_to(self, layer: int, n_positions: int) -> int:
        """How many of the rows belong to the first positions."""
        first_T = self.padded[layer].first_T
        return int(first_T[n_positions]) if n_positions < len(first_T) else len(self.padded[layer].position_Q)

    def _make(self, layer: int) -> torch.Tensor:
        frozen, maps, f = self.frozen, self.frozen.replacement.layers[layer], self.frozen.layers[layer]
        padded, d = self.padded[layer], frozen.embedding_Td.shape[1]
        write_QSd = frozen.embedding_Td.new_zeros(len(padded.position_Q), padded.width + 2, d)
        write_QSd[padded.row_N, padded.slot_N] = feature_writes(maps, f)
        write_QSd[padded.first_T, -2] = f.error_Td
        write_QSd[padded.first_T, -1] = _constant(frozen, layer)
        return write_QSd


def _padded_rows(f: FrozenLayer, n_positions: int) -> PaddedRows:
    count_T = torch.bincount(f.position_N, minlength=n_positions)
    # K for the least padding: a row costs its K + 2 places and, in products, about as much as 8 more
    most = max(1, int(count_T.max()))
    width_W = torch.arange(1, most + 1, device=count_T.device)
    rows_W = (-(-count_T // width_W[:, None])).clamp(min=1).sum(1)
    width = int(width_W[(rows_W * (width_W + 10)).argmin()])
    first_feature_T = count_T.cumsum(0) - count_T
    number_N = torch.arange(len(f.position_N), device=count_T.device) - first_feature_T[f.position_N]
    rows_T = (-(-count_T // width)).clamp(min=1)
    first_T = rows_T.cumsum(0) - rows_T
    position_Q = torch.arange(n_positions, device=count_T.device).repeat_interleave(rows_T)
    return PaddedRows(first_T[f.position_N] + number_N // width, number_N % width, position_Q, first_T, width)


def last_rows(frozen: FrozenPrompt, gradient_d: torch.Tensor) -> GradientRows:
    """A gradient on the last residual stream at the last position: a weighted sum of logits."""
    last = torch.tensor([frozen.n_positions - 1], device=gradient_d.device)
    return GradientRows(gradient_d[None], last, len(frozen.layers))


def _constant(frozen: FrozenPrompt, layer: int) -> torch.Tensor:
    """What block `layer` adds to the stream at each position whatever the tokens are, [T, d]."""
    maps, f = frozen.replacement.layers[layer], frozen.layers[layer]
    constant_Td = f.attn_bias_Td + mlp_read(f, maps.dec_bias_d.expand_as(f.attn_bias_Td))
    if not frozen.replacement.parallel:  # the skip term of this block reads what its attention wrote
        constant_Td = constant_Td + skip_forward(maps, f, f.attn_bias_Td)
    return constant_Td


class BlockStream(NamedTuple):
    """What one block sees: the stream into it, the stream that its MLP reads, and the values of its heads
    without their bias, all in front of the norm's shift and with its 1/σ in the values."""

    into_Td: torch.Tensor
    mlp_reads_Td: torch.Tensor
    value_HTk: torch.Tensor


@torch.no_grad()
def streams(frozen: FrozenPrompt) -> tuple[BlockStream, ...]:
    """The stream at every block of the frozen model. Memory: layers × positions × (2 d + H k)."""
    rep, out = frozen.replacement, []
    into_Td = frozen.embedding_Td
    for maps, layer in zip(rep.layers, frozen.layers, strict=True):
        behind_Td = into_Td + attention_forward(maps, layer, into_Td)[1] + layer.attn_bias_Td
        reads_Td = into_Td if rep.parallel else behind_Td
        out.append(BlockStream(into_Td, reads_Td, head_values(maps, layer, into_Td)))
        # what the replaced MLP and its error add to the stream, [T, d]
        constant_Td = mlp_read(layer, maps.dec_bias_d.expand_as(reads_Td))
        added_Td = (layer.error_Td + constant_Td).index_add(0, layer.position_N, feature_writes(maps, layer))
        into_Td = behind_Td + (added_Td + skip_forward(maps, layer, reads_Td))
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
