"""Direct edges: rows of gradients carried down the frozen model, past no other feature (method §5).

A row reads the residual stream at one position. Below one block its gradients G at all positions are few
vectors, each spread over the positions by the attention patterns on its path:
    G[r, p] = Σ_j weight[position of r, j, p] · unit[r, j]
so rows at the same position share the weights, and no product runs over positions × width × width. After a
few blocks there are as many paths as dimensions; from there on G is carried as it is ("wide"), all rows of a
wave in one buffer: rows of other layers join as the wave passes them, so that what a block writes is made
once for all of them.
Legend: R rows of a wave, U positions of some of them, J paths, P positions that they can see, T positions,
H heads, k head width, d residual width, K places of a padded row of features, Q such rows, S = K + 2, X pairs
of a row and a padded row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from scx_core.attribution.local_replacement_model import FrozenLayer, FrozenPrompt, attn_bias, skip_back
from scx_core.attribution.replacement_model import LayerMaps
from scx_core.attribution.residual_stream import GradientRows, Sources, Workspace, skip_forward
from scx_core.language import addmm_, bmm, linear, mm
from scx_core.language.patterns import KEPT

# Paths a row may have before its gradients are carried as they are, as a share of the width.
PATHS = 0.34
PIECE, PIECE_ON_CARD = 4_000_000, 64_000_000  # gradients that one block's attention takes at a time
MOST_BLOCKS, LEAST_BLOCK = 4, 64  # blocks of columns that patterns are cut into, and positions of the least


class LowRankGradients(NamedTuple):
    """Gradients as few vectors a row, `unit_RJd`, and where each stands with which weight,
    `weight_UJP`; row r has the weights `at_R[r]`."""

    weight_UJP: torch.Tensor
    unit_RJd: torch.Tensor
    at_R: torch.Tensor

    def dense(self, out_RPd: torch.Tensor | None = None) -> torch.Tensor:
        """[R, P, d], in a buffer where one is given."""
        return bmm(self.weight_UJP[self.at_R].transpose(1, 2), self.unit_RJd, out_RPd)

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
    return LowRankGradients(weight_UJP, linear(state.unit_RJd, maps.skip_dd.T), state.at_R)


def _head_reads(maps: LayerMaps, read: torch.Tensor) -> torch.Tensor:
    """Gradients on the output of attention → on each head's values, [..., H·k]."""
    return linear(read, maps.O_Hkd.flatten(0, 1))


def _attention(maps: LayerMaps, f: FrozenLayer, state: LowRankGradients) -> LowRankGradients:
    """Every path goes on through every head."""
    heads, width, d = maps.V_Hkd.shape
    R, J, _ = state.unit_RJd.shape
    value_HNk = _head_reads(maps, state.unit_RJd).view(R * J, heads, width).transpose(0, 1)
    unit_HNd = bmm(value_HNk, maps.V_Hkd)
    unit_RJd = unit_HNd.view(heads, R, J, d).permute(1, 2, 0, 3).reshape(R, J * heads, d)
    return LowRankGradients(_through_patterns(f, state.weight_UJP), unit_RJd, state.at_R)


def _through_patterns(f: FrozenLayer, weight_UJP: torch.Tensor) -> torch.Tensor:
    """Weights one block further down: through each head's pattern, [U, J·H, P]."""
    U, J, P = weight_UJP.shape
    out_UJP = _scaled(weight_UJP, f.attn_out_scale_T)
    looked_HNP = out_UJP.reshape(1, U * J, P) @ f.pattern.up_to(P)
    weight_UJHP = looked_HNP.view(-1, U, J, P).permute(1, 2, 0, 3)
    return _scaled(weight_UJHP.reshape(U, -1, P), f.attn_scale_T)


def _after(maps: LayerMaps, paths: int, parallel: bool) -> int:
    """Paths of a row below a block, of those above it."""
    skipped = paths if maps.skip_dd is None else 2 * paths
    return skipped + len(maps.V_Hkd) * (paths if parallel else skipped)


def _down(frozen: FrozenPrompt, k: int, state: LowRankGradients) -> LowRankGradients:
    """From the stream behind block k to the stream in front of it."""
    rep, maps, f = frozen.replacement, frozen.replacement.layers[k], frozen.layers[k]
    skipped = state if maps.skip_dd is None else state.plus(_skip(maps, f, state))
    return skipped.plus(_attention(maps, f, state if rep.parallel else skipped))


def _values_back(maps: LayerMaps, f: FrozenLayer, reads_RPd: torch.Tensor, space: Workspace) -> torch.Tensor:
    """Gradients on what attention writes → those on the heads' values at the positions attended to,
    [R, P, H, k], in a buffer of the workspace."""
    heads, width, d = maps.V_Hkd.shape
    R, P, _ = reads_RPd.shape
    value_NX = space.of("v", R * P, heads * width)
    value_NX = mm(reads_RPd.view(R * P, d), maps.O_Hkd.flatten(0, 1).T, value_NX)
    if f.attn_out_scale_T is not None:
        value_NX.view(R, P, -1).mul_(f.attn_out_scale_T[:P, None])
    # One product a head over all rows: broadcast over rows, the patterns would be copied for each of them.
    value_HPRk = space.of("heads", heads, P, R, width)
    value_HPRk.copy_(value_NX.view(R, P, heads, width).permute(2, 1, 0, 3))
    back_HPX = space.of("v", heads, P, R * width)
    # Nothing attends to a later position: of the patterns, blocks of columns from the diagonal on.
    pattern_HPP = f.pattern.up_to(P)
    step = -(-P // min(MOST_BLOCKS, max(1, P // LEAST_BLOCK)))
    for first in range(0, P, step):
        last = min(first + step, P)
        seen_HpP = pattern_HPP[:, first:, first:last].transpose(1, 2)
        bmm(seen_HpP, value_HPRk[:, first:].flatten(2), back_HPX[:, first:last])
    back_RPHk = back_HPX.view(heads, P, R, width).permute(2, 1, 0, 3)
    return torch.mul(back_RPHk, f.attn_scale_T[:P, None, None], out=space.of("heads", R, P, heads, width))


def _wide_down(frozen: FrozenPrompt, k: int, G_RPd: torch.Tensor, space: Workspace) -> None:
    """From the stream behind block k to the stream in front of it, in place and some rows at a time."""
    rep, maps, f = frozen.replacement, frozen.replacement.layers[k], frozen.layers[k]
    for some_RPd in _pieces(G_RPd):
        R, P, d = some_RPd.shape
        skip_RPd = None if maps.skip_dd is None else skip_back(maps, f, some_RPd)
        if skip_RPd is not None and not rep.parallel:
            some_RPd += skip_RPd
        back_RPHk = _values_back(maps, f, some_RPd, space)
        if skip_RPd is not None and rep.parallel:
            some_RPd += skip_RPd
        addmm_(some_RPd.view(R * P, d), back_RPHk.view(R * P, -1), maps.V_Hkd.flatten(0, 1))


def _pieces(G_RPd: torch.Tensor) -> Iterable[torch.Tensor]:
    """Some rows at a time, so that what is made of them stays in the caches of a processor."""
    numbers = PIECE if G_RPd.device.type == "cpu" else PIECE_ON_CARD
    return G_RPd.split(max(1, numbers // (G_RPd.shape[1] * G_RPd.shape[2])))


def _token_edges(
    frozen: FrozenPrompt, state: LowRankGradients | torch.Tensor, inside: bool, space: Workspace
) -> torch.Tensor:
    """Edges from the tokens of rows on the stream behind block 0 (`inside`: behind its attention), [R, P].

    Instead of gradients on the embeddings, the embeddings are brought to the heads' values.
    """
    rep, maps, f = frozen.replacement, frozen.replacement.layers[0], frozen.layers[0]
    x_Td = frozen.embedding_Td
    local_Td = x_Td if inside else x_Td + skip_forward(maps, f, x_Td)
    heads, width, d = maps.V_Hkd.shape
    value_HTk = linear(x_Td, maps.V_Hkd.flatten(0, 1)).view(-1, heads, width).transpose(0, 1)
    skips = maps.skip_dd is not None and not (inside or rep.parallel)
    if isinstance(state, LowRankGradients):
        reads = state.plus(_skip(maps, f, state)) if skips else state
        if reads.unit_RJd.shape[1] * heads > 4 * d:
            return _token_edges(frozen, state.dense(), inside, space)
        P = reads.weight_UJP.shape[-1]
        read_RJHk = _head_reads(maps, reads.unit_RJd).unflatten(-1, (heads, width))
        read_HNk = read_RJHk.permute(2, 0, 1, 3).flatten(1, 2)
        part_HNP = read_HNk @ value_HTk[:, :P].transpose(1, 2)
        part_RJHP = part_HNP.unflatten(1, read_RJHk.shape[:2]).permute(1, 2, 0, 3).flatten(1, 2)
        edge_RP = (_through_patterns(f, reads.weight_UJP)[reads.at_R] * part_RJHP).sum(1)
    else:
        found = []
        for some_RPd in _pieces(state):
            reads_RPd = some_RPd + skip_back(maps, f, some_RPd) if skips else some_RPd
            back_RPHk = _values_back(maps, f, reads_RPd, space)
            value_PHk = value_HTk[:, : back_RPHk.shape[1]].transpose(0, 1)
            found.append(back_RPHk.mul_(value_PHk).sum((2, 3)))
        edge_RP = torch.cat(found)
    return edge_RP + _local(state, local_Td)


def _local(state: LowRankGradients | torch.Tensor, x_Td: torch.Tensor) -> torch.Tensor:
    """G · x at every position, [R, P]."""
    if isinstance(state, torch.Tensor):
        return torch.bmm(state.transpose(0, 1), x_Td[: state.shape[1], :, None])[..., 0].T
    P = state.weight_UJP.shape[-1]
    return (state.weight_UJP[state.at_R] * (state.unit_RJd @ x_Td[:P].T)).sum(1)


class LayerEdges(NamedTuple):
    """Edges of rows `first` to `last` (exclusive) of a wave from the features of block `layer`, by padded
    row: `edge_QRK`.

    When they come from a row's own position only: `edge_XK` with X pairs of a row (counted from `first`) and
    a padded row, `row_X` and `slot_row_X`.
    """

    layer: int
    first: int
    last: int
    edge: torch.Tensor
    row_X: torch.Tensor | None = None
    slot_row_X: torch.Tensor | None = None

    def over_features(self, edge: torch.Tensor) -> torch.Tensor:
        """Sum of such a tensor over all features, [last - first]."""
        if self.row_X is None:
            return edge.sum((0, 2))
        return edge.new_zeros(self.last - self.first).index_add_(0, self.row_X, edge.sum(1))


class OtherEdges(NamedTuple):
    """Edges of a wave of rows that do not come from features: from errors ([R, L, P]), tokens ([R, P]), and
    constants ([R], what the frozen model adds whatever the sources are, the row's own bias left out)."""

    error_RLP: torch.Tensor
    token_RP: torch.Tensor
    constant_R: torch.Tensor


class _Part(NamedTuple):
    """Rows of one layer on their way: their places in the wave, and their gradients. `own`: they still read
    at their own position only."""

    first: int
    last: int
    rows: GradientRows
    state: LowRankGradients
    own: bool


def direct_edges(
    sources: Sources, batches: Sequence[GradientRows], take: Callable[[LayerEdges], None]
) -> OtherEdges:
    """Every direct edge into the rows of a wave: batches of one layer each, the highest first. `take` is
    given those from features, block by block from the top. Memory: rows × (P × d + active features of a
    block)."""
    frozen, n_rows = sources.frozen, sum(len(rows.position_R) for rows in batches)
    P = max(int(rows.position_R[-1]) for rows in batches) + 1
    new = frozen.embedding_Td.new_zeros
    out = OtherEdges(new(n_rows, len(frozen.layers), P), new(n_rows, P), new(n_rows))
    few: list[_Part] = []
    G_RPd, n_wide = new(0, P, frozen.embedding_Td.shape[1]), 0
    waiting, first = list(batches), 0
    crossed = _Crossed(sources, n_rows, P) if frozen.replacement.crosses else None
    for k in range(batches[0].layer - 1, -1, -1):
        while waiting and waiting[0].layer == k + 1:
            few.append(_joined(frozen, waiting[0], first, P, out))
            first += len(waiting.pop(0).position_R)
        while few and k and _is_wide(frozen, k, few[0].state):
            part = few.pop(0)
            if not n_wide:
                G_RPd = sources.space.of("wide", n_rows, P, G_RPd.shape[2])
            n_wide = part.last
            part.state.dense(G_RPd[part.first : n_wide])
        for part in few:
            if part.own and crossed is None:
                take(_own_edges(sources, part, k, out))
            else:
                some_RPd = part.state.dense()
                found = _wide_edges(sources, some_RPd, part.first, k, out)
                take(found if crossed is None else crossed.with_later(found, some_RPd))
        if n_wide:
            found = _wide_edges(sources, G_RPd[:n_wide], 0, k, out)
            take(found if crossed is None else crossed.with_later(found, G_RPd[:n_wide]))
        if k:
            few = [part._replace(state=_down(frozen, k, part.state), own=False) for part in few]
            if n_wide:
                _wide_down(frozen, k, G_RPd[:n_wide], sources.space)
    _last_edges(sources, few, G_RPd[:n_wide], out)
    for rows in waiting:  # of block 0
        _first_block_edges(sources, rows, first, out)
        first += len(rows.position_R)
    return out


class _Crossed:
    """Edges of a cross-layer set from features of lower blocks, by what they write to the blocks that a wave
    has passed: one [Q, R, K] a layer, complete when the wave reaches the features' own block."""

    def __init__(self, sources: Sources, n_rows: int, n_positions: int) -> None:
        self._sources = sources
        new = sources.frozen.embedding_Td.new_zeros
        ends = [sources.rows_up_to(k, n_positions) for k in range(len(sources.padded))]
        self._edge = [new(end, n_rows, at.width) for end, at in zip(ends, sources.padded, strict=True)]

    def with_later(self, found: LayerEdges, G_RPd: torch.Tensor) -> LayerEdges:
        """The edges from a block's own features with those through later blocks; `G_RPd`, the gradients
        behind this block, are kept for what lower features write to it."""
        rows = slice(found.first, found.last)
        for m in range(found.layer):
            edge_QRK = self._edge[m]
            for some in self._sources.blocks(m, len(edge_QRK)):
                write_QKd = self._sources.crossing(m, found.layer, some)
                G_RQd = G_RPd[:, self._sources.padded[m].position_Q[some]]
                edge_QRK[some, rows] += bmm(G_RQd.transpose(0, 1), write_QKd.transpose(1, 2))
        return found._replace(edge=found.edge + self._edge[found.layer][:, rows])


def _is_wide(frozen: FrozenPrompt, k: int, state: LowRankGradients) -> bool:
    """Whether below block k there would be more paths than pay; of a long prompt more than one block makes,
    as what each of them needs while it passes the patterns grows with the heads."""
    maps = frozen.replacement.layers[k]
    heads, _, d = maps.V_Hkd.shape
    most = max(1 + heads, PATHS * d) if frozen.patterns == KEPT else 1 + heads
    return _after(maps, state.unit_RJd.shape[1], frozen.replacement.parallel) > most


def _joined(frozen: FrozenPrompt, rows: GradientRows, first: int, P: int, out: OtherEdges) -> _Part:
    """Rows that start here, behind the attention of their block where they read there."""
    last, state = first + len(rows.position_R), _start(rows, P)
    if not rows.inside:
        return _Part(first, last, rows, state, own=True)
    maps, f = frozen.replacement.layers[rows.layer], frozen.layers[rows.layer]
    out.constant_R[first:last] += (rows.gradient_Rd * attn_bias(maps, f, rows.position_R)).sum(-1)
    return _Part(first, last, rows, state.plus(_attention(maps, f, state)), own=False)


def _last_edges(sources: Sources, few: list[_Part], G_RPd: torch.Tensor, out: OtherEdges) -> None:
    """Edges from the tokens, of rows that came down to block 0."""
    for part in few:
        edge_RP = _token_edges(sources.frozen, part.state, False, sources.space)
        out.token_RP[part.first : part.last] = edge_RP
    if len(G_RPd):
        out.token_RP[: len(G_RPd)] = _token_edges(sources.frozen, G_RPd, False, sources.space)


def _first_block_edges(sources: Sources, rows: GradientRows, first: int, out: OtherEdges) -> None:
    """Edges into rows of block 0, which see tokens only."""
    frozen, last = sources.frozen, first + len(rows.position_R)
    if not rows.inside:
        own_R = (rows.gradient_Rd * frozen.embedding_Td[rows.position_R]).sum(-1)
        out.token_RP[torch.arange(first, last, device=own_R.device), rows.position_R] = own_R
        return
    bias_Rd = attn_bias(frozen.replacement.layers[0], frozen.layers[0], rows.position_R)
    out.constant_R[first:last] += (rows.gradient_Rd * bias_Rd).sum(-1)
    start = _start(rows, out.token_RP.shape[1])
    out.token_RP[first:last] = _token_edges(frozen, start, True, sources.space)


def target_edges(sources: Sources, rows: GradientRows, take: Callable[[LayerEdges], None]) -> OtherEdges:
    """Every direct edge into a target that reads at one position or several: its rows added up to one."""

    def added_up(part: LayerEdges) -> None:
        if part.row_X is None:
            take(part._replace(first=0, last=1, edge=part.edge.sum(1, keepdim=True)))
        else:  # rows read at different positions, so no feature is twice among them
            take(part._replace(first=0, last=1, row_X=torch.zeros_like(part.row_X)))

    found = direct_edges(sources, [rows], added_up)
    return OtherEdges(*(part.sum(0, keepdim=True) for part in found))


def _own_edges(sources: Sources, part: _Part, k: int, out: OtherEdges) -> LayerEdges:
    """Edges of rows that still read at their own position only."""
    padded, rows = sources.padded[k], part.rows
    end = sources.rows_up_to(k, int(rows.position_R[-1]) + 1)
    same_RQ = rows.position_R[:, None] == padded.position_Q[None, :end]
    row_X, slot_row_X = same_RQ.nonzero(as_tuple=True)
    write_XSd = sources.writes(k, slot_row_X)
    edge_XS = torch.bmm(write_XSd, rows.gradient_Rd[row_X][..., None])[..., 0]
    first_Y = (padded.first_T[rows.position_R][row_X] == slot_row_X).nonzero()[:, 0]
    r = row_X[first_Y]
    out.error_RLP[part.first + r, k, rows.position_R[r]] = edge_XS[first_Y, -2]
    out.constant_R[part.first + r] += edge_XS[first_Y, -1]
    return LayerEdges(k, part.first, part.last, edge_XS[:, :-2], row_X, slot_row_X)


def _wide_edges(sources: Sources, G_RPd: torch.Tensor, first: int, k: int, out: OtherEdges) -> LayerEdges:
    """Edges from every position: gradients are spread over the padded rows, where a position may be twice."""
    padded, n_positions = sources.padded[k], G_RPd.shape[1]
    end, last = sources.rows_up_to(k, n_positions), first + len(G_RPd)
    edge_QRS = G_RPd.new_empty(end, len(G_RPd), padded.width + 2)
    for some in sources.blocks(k, end):
        write_QSd = sources.writes(k, some)
        G_RQd = G_RPd[:, some if end == n_positions else padded.position_Q[some]]
        bmm(G_RQd.transpose(0, 1), write_QSd.transpose(1, 2), edge_QRS[some])
    out.error_RLP[first:last, k] = edge_QRS[padded.first_T[:n_positions], :, -2].T
    out.constant_R[first:last] += edge_QRS[..., -1].sum(0)
    return LayerEdges(k, first, last, edge_QRS[..., :-2])
