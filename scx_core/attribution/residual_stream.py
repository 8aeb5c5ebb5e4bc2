"""The residual stream of a frozen prompt: what every block writes to it, and its forward run (method §5).

A target reads the stream (`GradientRows`), a source writes to it (`Sources`). The sum over all sources is the
original model's own stream, by the definition of the error, up to the rounding of its numbers.
Legend: R rows of a batch, T positions, H heads, k head width, d residual width, N active features, K places
of a padded row of features, Q such rows, S = K + 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attn_bias,
    attn_read,
    feature_writes,
    mlp_read,
)
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.language import bmm, linear

if TYPE_CHECKING:
    from scx_core.attribution.node_selection import KnownRows

# Writes of all layers are kept up to this size; beyond, a layer's are made again for every wave of rows.
KEPT_BYTES = 400_000_000
BLOCK_NUMBERS = 2_000_000  # of writes that are made again, made at a time


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


class Workspace:
    """Buffers that are asked for once and used again: each has a name, and what it held is lost when the same
    name is asked for again. One thread's."""

    def __init__(self, like: torch.Tensor) -> None:
        self._new = like.new_empty
        self._flat: dict[str, torch.Tensor] = {}

    def of(self, name: str, *shape: int) -> torch.Tensor:
        """A buffer of this shape, its numbers undefined."""
        n = math.prod(shape)
        if name not in self._flat or len(self._flat[name]) < n:
            self._flat.pop(name, None)  # before the larger one is there
            self._flat[name] = self._new(n)
        return self._flat[name][:n].view(shape)


class PaddedRows(NamedTuple):
    """Where a layer's active features stand in its padded writes: row and place in the row of each, [N].

    Tokens have few active features or many, so a position takes as many rows of K places as it needs:
    `position_Q` of every row, in order, and `first_T`, the first row of every position. `feature_QS` and
    `value_QS`: number and activation at every place, 0 where a place is empty and at the last two; times the
    1/σ of a norm behind the MLP, if there is one, but in `plain_QS`.
    """

    row_N: torch.Tensor
    slot_N: torch.Tensor
    position_Q: torch.Tensor
    first_T: torch.Tensor
    width: int
    feature_QS: torch.Tensor
    value_QS: torch.Tensor
    plain_QS: torch.Tensor


class Sources:
    """The writes of every block of one prompt, made when asked for. `padded`: one a layer. `kept`: they stay,
    else they are made again. `space`: buffers of the thread that traces this prompt. `rows`: so many are
    carried together at most, and little is kept, where memory is short; None for as many as pay."""

    def __init__(self, frozen: FrozenPrompt, rows: int | None = None) -> None:
        self.frozen, self.space, self.rows = frozen, Workspace(frozen.embedding_Td), rows
        self.padded = [_padded_rows(f, frozen.n_positions) for f in frozen.layers]
        size = frozen.embedding_Td.element_size() * frozen.embedding_Td.shape[1]
        whole = sum(len(padded.position_Q) * (padded.width + 2) * size for padded in self.padded)
        self.kept = whole < KEPT_BYTES and rows is None
        self._kept: dict[int, torch.Tensor] = {}
        self._first_T: dict[int, list[int]] = {}
        self.known: KnownRows | None = None  # rows that the choice of nodes has made already

    def writes(self, layer: int, at: slice | torch.Tensor) -> torch.Tensor:
        """What a block adds to the stream, by padded row, [Q, K + 2, d] of the rows asked for: the active
        features, padded; in a position's first row, the reconstruction error and what it adds whatever the
        tokens are. Valid until the next call."""
        if not self.kept:
            return self._make(layer, at, self.space)
        if layer not in self._kept:
            whole = slice(0, len(self.padded[layer].position_Q))
            self._kept[layer] = self._make(layer, whole, Workspace(self.frozen.embedding_Td))
        return self._kept[layer][at]

    def crossing(self, layer: int, to: int, at: slice) -> torch.Tensor:
        """What a layer's features write to a later block, by padded row, [Q, K, d]. Valid until the next."""
        rep, padded = self.frozen.replacement, self.padded[layer]
        W_Fd, f = rep.layers[layer].decoder(to - layer), self.frozen.layers[to]
        write_QKd = W_Fd[padded.feature_QS[at, :-2]] * padded.plain_QS[at, :-2, None]
        scale_T = f.mlp_out_scale_T
        return write_QKd if scale_T is None else write_QKd * scale_T[padded.position_Q[at], None, None]

    def blocks(self, layer: int, end: int) -> list[slice]:
        """The first rows in pieces: one where they are kept, else such that each is used while it is in a
        processor's cache."""
        size = (self.padded[layer].width + 2) * self.frozen.embedding_Td.shape[1]
        whole = self.kept or self.frozen.embedding_Td.device.type != "cpu"
        step = max(1, end if whole else BLOCK_NUMBERS // size)
        return [slice(first, min(first + step, end)) for first in range(0, end, step)]

    def rows_up_to(self, layer: int, n_positions: int) -> int:
        """How many of the rows belong to the first positions."""
        if layer not in self._first_T:  # read once: a card would be waited for at every wave
            self._first_T[layer] = self.padded[layer].first_T.tolist()
        first_T = self._first_T[layer]
        return first_T[n_positions] if n_positions < len(first_T) else len(self.padded[layer].position_Q)

    def _make(self, layer: int, at: slice | torch.Tensor, space: Workspace) -> torch.Tensor:
        frozen, maps, f = self.frozen, self.frozen.replacement.layers[layer], self.frozen.layers[layer]
        padded, d = self.padded[layer], frozen.embedding_Td.shape[1]
        feature_QS, position_Q = padded.feature_QS[at], padded.position_Q[at]
        write_QSd = space.of("writes", *feature_QS.shape, d)
        torch.index_select(maps.dec_Fd, 0, feature_QS.flatten(), out=write_QSd.view(-1, d))
        write_QSd *= padded.value_QS[at][..., None]
        number_Q = torch.arange(len(padded.position_Q), device=position_Q.device)[at]
        first_Q = (padded.first_T[position_Q] == number_Q)[:, None]
        write_QSd[:, -2] = f.error_Td[position_Q] * first_Q
        write_QSd[:, -1] = _constant(frozen, layer, position_Q) * first_Q
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
    row_N, slot_N = first_T[f.position_N] + number_N // width, number_N % width
    feature_QS = f.feature_N.new_zeros(len(position_Q), width + 2)
    feature_QS[row_N, slot_N] = f.feature_N
    value_QS = f.value_N.new_zeros(feature_QS.shape)
    plain_QS = value_QS
    if f.mlp_out_scale_T is not None:
        plain_QS = f.value_N.new_zeros(feature_QS.shape)
        plain_QS[row_N, slot_N] = f.value_N
    # what stands behind the MLP, if anything, scales what is written (`mlp_read`)
    value_QS[row_N, slot_N] = mlp_read(f, f.value_N[:, None], f.position_N)[:, 0]
    return PaddedRows(row_N, slot_N, position_Q, first_T, width, feature_QS, value_QS, plain_QS)


def last_rows(frozen: FrozenPrompt, gradient_d: torch.Tensor) -> GradientRows:
    """A gradient on the last residual stream at the last position: a weighted sum of logits."""
    last = torch.tensor([frozen.n_positions - 1], device=gradient_d.device)
    return GradientRows(gradient_d[None], last, len(frozen.layers))


def _constant(frozen: FrozenPrompt, layer: int, position_R: torch.Tensor) -> torch.Tensor:
    """What block `layer` adds to the stream at these positions whatever the tokens are, [R, d]."""
    maps, f = frozen.replacement.layers[layer], frozen.layers[layer]
    attn_bias_Rd = attn_bias(maps, f, position_R)
    constant_Rd = attn_bias_Rd + mlp_read(f, maps.dec_bias_d.expand_as(attn_bias_Rd), position_R)
    if maps.skip_dd is not None and not frozen.replacement.parallel:
        # the skip term of this block reads what its attention wrote
        scaled_Rd = attn_bias_Rd * f.mlp_scale_T[position_R, None]
        constant_Rd = constant_Rd + mlp_read(f, linear(scaled_Rd, maps.skip_dd), position_R)
    return constant_Rd


class BlockStream(NamedTuple):
    """What one block sees: the stream into it, the stream that its MLP reads, and the values of its heads
    without their bias, all in front of the norm's shift and with its 1/σ in the values."""

    into_Td: torch.Tensor
    mlp_reads_Td: torch.Tensor
    value_HTk: torch.Tensor


@torch.no_grad()
def streams(frozen: FrozenPrompt) -> tuple[BlockStream, ...]:
    """The stream at every block of the frozen model. Memory: layers × positions × (2 d + H k)."""
    frozen.replacement.transcoders.need_own_decoders("Paths")
    rep, out = frozen.replacement, []
    into_Td = frozen.embedding_Td
    for maps, layer in zip(rep.layers, frozen.layers, strict=True):
        behind_Td = into_Td + attention_forward(maps, layer, into_Td)[1] + attn_bias(maps, layer)
        reads_Td = into_Td if rep.parallel else behind_Td
        out.append(BlockStream(into_Td, reads_Td, head_values(maps, layer, into_Td)))
        # what the replaced MLP and its error add to the stream, [T, d]
        constant_Td = mlp_read(layer, maps.dec_bias_d.expand_as(reads_Td))
        added_Td = (layer.error_Td + constant_Td).index_add(0, layer.position_N, feature_writes(maps, layer))
        into_Td = behind_Td + (added_Td + skip_forward(maps, layer, reads_Td))
    return tuple(out)


def head_values(maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor) -> torch.Tensor:
    """Values of the heads for x on the stream into the block, without their bias, [..., H, T, k]."""
    value_TX = linear(x_Td * layer.attn_scale_T[:, None], maps.V_Hkd.flatten(0, 1))
    return value_TX.unflatten(-1, maps.V_Hkd.shape[:2]).transpose(-3, -2)


def attention_forward(
    maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frozen attention of x [..., T, d] on the stream, without biases: values mixed by the patterns,
    [..., H, T, k], and what is written to the stream, [..., T, d]."""
    mixed_HTk = _mixed(layer.pattern_HTT, head_values(maps, layer, x_Td))
    written_Td = linear(mixed_HTk.transpose(-3, -2).flatten(-2), maps.O_Hkd.flatten(0, 1).T)
    return mixed_HTk, attn_read(layer, written_Td)


def _mixed(pattern_HTT: torch.Tensor, value_HTk: torch.Tensor) -> torch.Tensor:
    """Values [..., H, T, k] mixed by the patterns, which are not copied for each of the leading ones."""
    value_SHTk = value_HTk.reshape(-1, *value_HTk.shape[-3:])
    S, H, T, k = value_SHTk.shape
    mixed_HTX = bmm(pattern_HTT, value_SHTk.permute(1, 2, 0, 3).reshape(H, T, S * k))
    return mixed_HTX.view(H, T, S, k).permute(2, 0, 1, 3).reshape(value_HTk.shape)


def skip_forward(maps: LayerMaps, layer: FrozenLayer, x_Td: torch.Tensor) -> torch.Tensor:
    """What the skip term adds to the stream for x [..., T, d] on the stream that the MLP reads."""
    if maps.skip_dd is None:
        return torch.zeros_like(x_Td)
    return mlp_read(layer, linear(x_Td * layer.mlp_scale_T[:, None], maps.skip_dd))
