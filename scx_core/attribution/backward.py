"""The backward pass of attribution: gradients carried down the frozen model, layer by layer (method §5, §8).

**Direct edges** (`all_edges`): a row reads the residual stream at one position. Below one block its gradients
G at all positions are few vectors, each spread over the positions by the attention patterns on its path:
    G[r, p] = Σ_j weight[position of r, j, p] · unit[r, j]
so rows at the same position share the weights, and no product runs over positions × width × width. After a
few blocks there are as many paths as dimensions; from there on G is carried as it is ("dense").

**Total effects** (`total_effects`): the same way down with the features' frozen gates open, so that the
effect of a source is the sum over all paths to the target, direct or through features. Embeddings, errors and
biases are the only sources at the end of every path, so theirs add up to the target.
Legend: R rows of a batch, U their positions, J paths, P positions that they can see, T positions, H heads,
k head width, d residual width, F features of a layer, N active features, K places of a padded row of
features, Q such rows, S = K + 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.attribution.local_replacement_model import (
    FrozenLayer,
    FrozenPrompt,
    attention_back,
    attn_read,
    mlp_back,
    mlp_read,
    skip_back,
)
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.attribution.residual_stream import GradientRows, Sources, skip_forward

# Paths a row may have before its gradients are carried as they are, as a share of the width.
PATHS = 0.34


class LowRankGradients(NamedTuple):
    """Gradients as few vectors a row, `unit_RJd`, and where each stands with which weight,
    `weight_UJP`; row r has the weights `at_R[r]`."""

    weight_UJP: torch.Tensor
    unit_RJd: torch.Tensor
    at_R: torch.Tensor

    def dense(self, unit_RJx: torch.Tensor | None = None) -> torch.Tensor:
        """[R, P, d], or [R, P, x] of other vectors with the same weights."""
        unit = self.unit_RJd if unit_RJx is None else unit_RJx
        return torch.bmm(self.weight_UJP[self.at_R].transpose(1, 2), unit)

    def plus(self, other: LowRankGradients) -> LowRankGradients:
        """Both together."""
        return LowRankGradients(
            torch.cat([self.weight_UJP, other.weight_UJP], 1),
            torch.cat([self.unit_RJd, other.unit_RJd], 1),
            self.at_R,
        )


def _start(rows: GradientRows, n_positions: int) -> LowRankGradients:
    places_U, at_R = rows.position_R.unique(return_inverse=True)
    weight_UJP = rows.gradient_Rd.new_zeros(len(places_U), 1, n_positions)
    weight_UJP[torch.arange(len(places_U), device=places_U.device), 0, places_U] = 1.0
    return LowRankGradients(weight_UJP, rows.gradient_Rd[:, None], at_R)


def _scaled(weight_UJP: torch.Tensor, *scales: torch.Tensor | None) -> torch.Tensor:
    for scale_T in scales:
        if scale_T is not None:
            weight_UJP = weight_UJP * scale_T[: weight_UJP.shape[-1]]
    return weight_UJP


def _skip(maps: LayerMaps, f: FrozenLayer, state: LowRankGradients) -> LowRankGradients:
    assert maps.skip_dd is not None  # called only where there is one
    weight_UJP = _scaled(state.weight_UJP, f.mlp_out_scale_T, f.mlp_scale_T)
    return LowRankGradients(weight_UJP, state.unit_RJd @ maps.skip_dd, state.at_R)


def _head_reads(maps: LayerMaps, read: torch.Tensor) -> torch.Tensor:
    """Gradients on the output of attention → on each head's values, [..., H·k]."""
    return read @ maps.O_Hkd.flatten(0, 1).T


def _attention(maps: LayerMaps, f: FrozenLayer, state: LowRankGradients) -> LowRankGradients:
    """Every path goes on through every head."""
    heads, width, d = maps.V_Hkd.shape
    R, J, _ = state.unit_RJd.shape
    value_HNk = _head_reads(maps, state.unit_RJd).view(R * J, heads, width).transpose(0, 1)
    unit_HNd = torch.bmm(value_HNk, maps.V_Hkd)
    unit_RJd = unit_HNd.view(heads, R, J, d).permute(1, 2, 0, 3).reshape(R, J * heads, d)
    return LowRankGradients(_through_patterns(f, state.weight_UJP), unit_RJd, state.at_R)


def _through_patterns(f: FrozenLayer, weight_UJP: torch.Tensor) -> torch.Tensor:
    """Weights one block further down: through each head's pattern, [U, J·H, P]."""
    U, J, P = weight_UJP.shape
    out_UJP = _scaled(weight_UJP, f.attn_out_scale_T)
    looked_HNP = out_UJP.reshape(1, U * J, P) @ f.pattern_HTT[:, :P, :P]
    weight_UJHP = looked_HNP.view(-1, U, J, P).permute(1, 2, 0, 3)
    return _scaled(weight_UJHP.reshape(U, -1, P), f.attn_scale_T)


def _patterns_back(f: FrozenLayer, value_RPHk: torch.Tensor) -> torch.Tensor:
    """Gradients on heads' values at the positions that attend → at those attended to, [R, P, H, k]."""
    R, P, heads, width = value_RPHk.shape
    # One product a head over all rows: broadcast over rows, the patterns would be copied for each of them.
    value_HPX = value_RPHk.permute(2, 1, 0, 3).reshape(heads, P, R * width)
    back_HPX = f.pattern_HTT[:, :P, :P].transpose(1, 2) @ value_HPX
    back_HPX *= f.attn_scale_T[:P, None]
    return back_HPX.view(heads, P, R, width).permute(2, 1, 0, 3)


def _values(maps: LayerMaps, f: FrozenLayer, state: LowRankGradients | torch.Tensor) -> torch.Tensor:
    """Gradients on the heads' values at every position, [R, P, H, k]."""
    if isinstance(state, torch.Tensor):
        value = _head_reads(maps, attn_read(f, state))
    else:
        scaled = state._replace(weight_UJP=_scaled(state.weight_UJP, f.attn_out_scale_T))
        value = scaled.dense(_head_reads(maps, state.unit_RJd))
    return value.unflatten(-1, maps.V_Hkd.shape[:2])


def _down(
    frozen: FrozenPrompt, k: int, state: LowRankGradients | torch.Tensor
) -> LowRankGradients | torch.Tensor:
    """From the stream behind block k to the stream in front of it."""
    rep, maps, f = frozen.replacement, frozen.replacement.layers[k], frozen.layers[k]
    heads, width, d = maps.V_Hkd.shape
    below: LowRankGradients | torch.Tensor
    if isinstance(state, LowRankGradients):
        skipped = state if maps.skip_dd is None else state.plus(_skip(maps, f, state))
        reads = state if rep.parallel else skipped
        after = skipped.unit_RJd.shape[1] + heads * reads.unit_RJd.shape[1]
        if after <= max(1 + heads, PATHS * d):
            return skipped.plus(_attention(maps, f, reads))
        value_RPHk = _values(maps, f, reads)
        below = skipped.dense()
    else:
        below = state + skip_back(maps, f, state)
        value_RPHk = _values(maps, f, state if rep.parallel else below)
    back_RPx = _patterns_back(f, value_RPHk).flatten(2)
    return below + back_RPx @ maps.V_Hkd.reshape(heads * width, d)


def _token_edges(frozen: FrozenPrompt, state: LowRankGradients | torch.Tensor, inside: bool) -> torch.Tensor:
    """Edges from the tokens of rows on the stream behind block 0 (`inside`: behind its attention), [R, P].

    Instead of gradients on the embeddings, the embeddings are brought to the heads' values.
    """
    rep, maps, f = frozen.replacement, frozen.replacement.layers[0], frozen.layers[0]
    x_Td = frozen.embedding_Td
    local_Td = x_Td if inside else x_Td + skip_forward(maps, f, x_Td)
    heads, width, _ = maps.V_Hkd.shape
    value_HTk = x_Td @ maps.V_Hkd.transpose(1, 2)
    reads = state
    if not (inside or rep.parallel) and maps.skip_dd is not None:
        reads = (
            state.plus(_skip(maps, f, state))
            if isinstance(state, LowRankGradients)
            else state + skip_back(maps, f, state)
        )
    if isinstance(reads, LowRankGradients) and reads.unit_RJd.shape[1] * heads <= 4 * x_Td.shape[1]:
        P = reads.weight_UJP.shape[-1]
        read_RJHk = _head_reads(maps, reads.unit_RJd).unflatten(-1, (heads, width))
        read_HNk = read_RJHk.permute(2, 0, 1, 3).flatten(1, 2)
        part_HNP = read_HNk @ value_HTk[:, :P].transpose(1, 2)
        part_RJHP = part_HNP.unflatten(1, read_RJHk.shape[:2]).permute(1, 2, 0, 3).flatten(1, 2)
        edge_RP = (_through_patterns(f, reads.weight_UJP)[reads.at_R] * part_RJHP).sum(1)
    else:
        back_RPHk = _patterns_back(f, _values(maps, f, reads))
        edge_RP = torch.einsum("rphk,hpk->rp", back_RPHk, value_HTk[:, : back_RPHk.shape[1]])
    return edge_RP + _local(state, local_Td)


def _local(state: LowRankGradients | torch.Tensor, x_Td: torch.Tensor) -> torch.Tensor:
    """G · x at every position, [R, P]."""
    if isinstance(state, torch.Tensor):
        return torch.einsum("rpd,pd->rp", state, x_Td[: state.shape[1]])
    P = state.weight_UJP.shape[-1]
    return (state.weight_UJP[state.at_R] * (state.unit_RJd @ x_Td[:P].T)).sum(1)


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


class LayerEdges(NamedTuple):
    """Edges of a batch from the features of block `layer`, by padded row: `edge_QRK`.

    When `own`, they come from a batch row's own position only: `edge_XK` with X pairs of a batch row and a
    padded row, `row_X` and `slot_row_X`.
    """

    layer: int
    own: bool
    edge: torch.Tensor
    row_X: torch.Tensor | None = None
    slot_row_X: torch.Tensor | None = None

    def over_features(self, edge: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Sum of such a tensor over all features, [R]."""
        if self.row_X is None:
            return edge.sum((0, 2))
        return edge.new_zeros(n_rows).index_add_(0, self.row_X, edge.sum(1))


class BatchEdges(NamedTuple):
    """All edges of a batch of rows: from features, errors ([R, L, P]), tokens ([R, P]), and constants ([R],
    what the frozen model adds whatever the sources are, the row's own bias left out)."""

    features: list[LayerEdges]
    error_RLP: torch.Tensor
    token_RP: torch.Tensor
    constant_R: torch.Tensor


def all_edges(sources: Sources, rows: GradientRows) -> BatchEdges:
    """Every direct edge into these rows. Memory: rows × (active features below + P × d)."""
    frozen = sources.frozen
    P = int(rows.position_R[-1]) + 1
    n_rows = len(rows.position_R)
    error_RLP = rows.gradient_Rd.new_zeros(n_rows, len(frozen.layers), P)
    out = BatchEdges([], error_RLP, rows.gradient_Rd.new_zeros(n_rows, P), rows.gradient_Rd.new_zeros(n_rows))
    start = _start(rows, P)
    state: LowRankGradients | torch.Tensor = start
    if rows.inside:
        bias_Td = frozen.layers[rows.layer].attn_bias_Td
        out.constant_R.add_((rows.gradient_Rd * bias_Td[rows.position_R]).sum(-1))
        if rows.layer == 0:
            return out._replace(token_RP=_token_edges(frozen, start, inside=True))
        state = start.plus(
            _attention(frozen.replacement.layers[rows.layer], frozen.layers[rows.layer], start)
        )
    if rows.layer == 0:
        own_R = (rows.gradient_Rd * frozen.embedding_Td[rows.position_R]).sum(-1)
        out.token_RP[torch.arange(n_rows, device=own_R.device), rows.position_R] = own_R
        return out
    for k in range(rows.layer - 1, -1, -1):
        if state is start:
            _own_edges(sources, rows, k, out)
        else:
            _wide_edges(sources, state, k, out)
        if k:
            state = _down(frozen, k, state)
    return out._replace(token_RP=_token_edges(frozen, state, inside=False))


def target_edges(sources: Sources, rows: GradientRows) -> BatchEdges:
    """Every direct edge into a target that reads at one position or several: its rows added up to one."""
    found = all_edges(sources, rows)
    if len(rows.position_R) == 1:
        return found
    features = []
    for part in found.features:
        if part.row_X is None:
            features.append(part._replace(edge=part.edge.sum(1, keepdim=True)))
        else:  # rows read at different positions, so no feature is twice among them
            features.append(part._replace(row_X=torch.zeros_like(part.row_X)))
    sums = (x.sum(0, keepdim=True) for x in (found.error_RLP, found.token_RP, found.constant_R))
    return BatchEdges(features, *sums)


def _own_edges(sources: Sources, rows: GradientRows, k: int, out: BatchEdges) -> None:
    """Edges of rows that still read at their own position only."""
    padded, end = sources.padded[k], sources.rows_up_to(k, int(rows.position_R[-1]) + 1)
    same_RQ = rows.position_R[:, None] == padded.position_Q[None, :end]
    row_X, slot_row_X = same_RQ.nonzero(as_tuple=True)
    write_XSd = sources.writes(k)[slot_row_X]
    edge_XS = torch.bmm(write_XSd, rows.gradient_Rd[row_X][..., None])[..., 0]
    out.features.append(LayerEdges(k, True, edge_XS[:, :-2], row_X, slot_row_X))
    first_X = padded.first_T[rows.position_R][row_X] == slot_row_X
    r = row_X[first_X]
    out.error_RLP[r, k, rows.position_R[r]] = edge_XS[first_X, -2]
    out.constant_R[r] += edge_XS[first_X, -1]


def _wide_edges(sources: Sources, state: LowRankGradients | torch.Tensor, k: int, out: BatchEdges) -> None:
    """Edges from every position: of gradients spread over the padded rows, where a position may be
    twice."""
    padded, n_positions = sources.padded[k], out.token_RP.shape[1]
    end = sources.rows_up_to(k, n_positions)
    position_Q = padded.position_Q[:end]
    if isinstance(state, LowRankGradients):
        G_RQd = state._replace(weight_UJP=state.weight_UJP[..., position_Q]).dense()
    else:
        G_RQd = state if end == n_positions else state[:, position_Q]
    edge_QRS = torch.bmm(G_RQd.transpose(0, 1), sources.writes(k)[:end].transpose(1, 2))
    out.features.append(LayerEdges(k, False, edge_QRS[..., :-2]))
    out.error_RLP[:, k] = edge_QRS[padded.first_T[:n_positions], :, -2].T
    out.constant_R.add_(edge_QRS[..., -1].sum(0))


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
    """Gradients below the frozen gates [T, d], effect of every active feature [N], and of their biases."""
    out_Td = mlp_read(frozen, G_Td)
    write_N = (maps.dec_Fd[frozen.feature_N] * out_Td[frozen.position_N]).sum(-1)
    counts_T = torch.bincount(frozen.position_N, minlength=len(G_Td))
    below_Td = torch.nn.functional.embedding_bag(
        frozen.feature_N, maps.enc_Fd, counts_T.cumsum(0) - counts_T, per_sample_weights=write_N, mode="sum"
    )
    below_Td, inner_T = mlp_back(maps, frozen, below_Td)
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
        bias = bias + (G_Td * layer.attn_bias_Td).sum()
        G_Td = G_Td + attention_back(maps, layer, G_Td[None])[0]
    features = [layer.value_N.new_zeros(layer.value_N.shape) for layer in frozen.layers]
    error_LT = G_Td.new_zeros(len(frozen.layers), len(G_Td))
    for k in range(target.layer - 1, -1, -1):
        maps, layer = rep.layers[k], frozen.layers[k]
        through_Td, features[k], feature_bias = _through_features(maps, layer, G_Td)
        error_LT[k] = (layer.error_Td * G_Td).sum(-1)
        bias = bias + feature_bias + mlp_read(layer, G_Td).sum(0) @ maps.dec_bias_d
        (reads_attention_Td,), (G_Td,) = block_back(frozen, k, G_Td[None], through_Td[None])
        bias = bias + (reads_attention_Td * layer.attn_bias_Td).sum()
    token_T = (frozen.embedding_Td * G_Td).sum(-1)
    return TotalEffects(token_T, tuple(features), error_LT, float(bias))
