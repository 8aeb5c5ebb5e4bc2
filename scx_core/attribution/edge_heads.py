"""Edges split by attention head: by how many heads their paths pass, and by the last of them (method §5).

An edge is a sum over paths of residual stream, skip terms and frozen heads. Through no head it is the
direct part; through exactly one head (m, h) it factors into what the head reads at the source and writes at
the target, times the attention weight; the rest, through two heads and more, is what is left of the edge.
All edges, layers and heads go in one product a layer.

Every path through one head or more also has one last head, which writes at the target's position; so these
parts and the direct part add up to the edge, however many heads the paths pass. One forward pass of what a
source writes, through residual stream, skip terms and all frozen heads, gives them for every head at once.
Legend: E edges, R targets, S sources, L layers, H heads, k head width, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from scx_core.attribution.backward import block_back
from scx_core.attribution.endpoints import (
    EdgeSources,
    EdgeTargets,
    Ref,
    attention_top,
    gradients_by_layer,
    sources_by_layer,
    sources_of,
    targets_of,
)
from scx_core.attribution.local_replacement_model import FrozenPrompt, attention_back, attn_read
from scx_core.attribution.residual_stream import GradientRows, attention_forward, skip_forward
from scx_core.errors import ScxError

ROWS = 16  # targets carried down together
EDGES = 2048  # at a time: the source vectors of that many sources are held for every layer


class Pair(NamedTuple):
    """An edge by its ends."""

    source: Ref
    target: Ref


class Split(NamedTuple):
    """Edges taken apart. `weight_E` are the whole edges, `direct_E` what passes no head.

    `attention_ELH`: the pattern's weight from the target's position to the source's. `ov_ELH`: what each
    head carries from the source to the target at an attention weight of 1; 0 for heads that do not lie
    between the two. All in units of the target, but for the attention.
    """

    weight_E: torch.Tensor
    direct_E: torch.Tensor
    attention_ELH: torch.Tensor
    ov_ELH: torch.Tensor

    @property
    def head_ELH(self) -> torch.Tensor:
        """Contribution of the paths that pass exactly this head."""
        return self.attention_ELH * self.ov_ELH

    @property
    def more_E(self) -> torch.Tensor:
        """Contribution of all paths through two heads and more: the one remainder."""
        return self.weight_E - self.direct_E - self.head_ELH.sum((1, 2))


def check_pairs(pairs: Sequence[Pair], target_row: GradientRows) -> None:
    """Raise ScxError for a pair that can have no edge: an error or token as target, a target as source, or a
    source that does not lie below and at or before its target."""
    explained = Ref("target", target_row.layer, int(target_row.position_R[-1]))
    for source, target in pairs:
        end = explained if target.kind == "target" else target
        if source.kind == "target" or target.kind not in ("feature", "target"):
            raise ScxError(
                f"There is no edge from {source.id} to {target.id}.",
                "Edges run from features, errors and tokens to features and the target.",
            )
        if source.layer >= end.layer or source.position > end.position:
            raise ScxError(
                f"{source.id} cannot act on {target.id}.",
                "A source lies in a layer below its target and not behind it.",
            )


class Parts(NamedTuple):
    """Edges, one for each row of a target that reads at several positions; `edge_P`: whose part each is."""

    pairs: list[Pair]
    edge_P: torch.Tensor

    def summed(self, part_P: torch.Tensor, n_edges: int) -> torch.Tensor:
        """The parts of each edge added up, [E, …]."""
        return part_P.new_zeros(n_edges, *part_P.shape[1:]).index_add_(0, self.edge_P, part_P)


def parts_of(pairs: Sequence[Pair], target: GradientRows) -> Parts:
    """The edges into features, and those into each row of the target that can see the source."""
    found: list[tuple[int, Pair]] = []
    at_R = target.position_R.tolist()
    for e, pair in enumerate(pairs):
        if pair.target.kind != "target":
            found.append((e, pair))
            continue
        rows = [row for row, at in enumerate(at_R) if at >= pair.source.position]
        found += [(e, pair._replace(target=pair.target._replace(row=row))) for row in rows]
    edge_P = torch.tensor([e for e, _ in found], device=target.gradient_Rd.device)
    return Parts([pair for _, pair in found], edge_P)


@torch.no_grad()
def edge_weights(frozen: FrozenPrompt, pairs: Sequence[Pair], target: GradientRows) -> torch.Tensor:
    """The whole edges, [E], of any pairs, whether or not a graph was traced. `target` is the trace's.

    Raises ScxError for a pair that can have no edge or a source that is not active.
    """
    check_pairs(pairs, target)
    parts = parts_of(pairs, target)
    reads, writes, row_E, column_E = ends_of(frozen, parts.pairs, target)
    weight_E = target.gradient_Rd.new_zeros(len(parts.pairs))
    for level in reads.level_R.unique().tolist():
        for rows in (reads.level_R == level).nonzero()[:, 0].split(ROWS):
            for k, G_RPd in _carried(frozen, reads, rows, level):
                here = (torch.isin(row_E, rows) & (writes.level_S[column_E] == k)).nonzero()[:, 0]
                place, column = torch.searchsorted(rows, row_E[here]), column_E[here]
                at_source_Ed = G_RPd[place, writes.position_S[column]]
                weight_E[here] = (at_source_Ed * writes.source_Sd[column]).sum(-1)
    return parts.summed(weight_E, len(pairs))


def _carried(
    frozen: FrozenPrompt, reads: EdgeTargets, rows: torch.Tensor, level: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Gradients [R, P, d] on the stream into each block from `level` down, of rows that read there."""
    rep, position_R = frozen.replacement, reads.position_R[rows]
    G_RPd = reads.gradient_Rd.new_zeros(len(rows), int(position_R.max()) + 1, reads.gradient_Rd.shape[1])
    G_RPd[torch.arange(len(rows), device=rows.device), position_R] = reads.gradient_Rd[rows]
    if attention_top(rep, level) > level:
        G_RPd = G_RPd + attention_back(rep.layers[level], frozen.layers[level], G_RPd)
    yield level, G_RPd
    for k in range(level - 1, -1, -1):
        _, G_RPd = block_back(frozen, k, G_RPd)
        yield k, G_RPd


@torch.no_grad()
def split_edges(
    frozen: FrozenPrompt, pairs: Sequence[Pair], weight_E: torch.Tensor, target: GradientRows
) -> Split:
    """Split many edges at once. `weight_E` are the whole edges, `target` the row of the trace's target.

    Raises ScxError for a pair that can have no edge or a source that is not active.
    """
    check_pairs(pairs, target)
    parts = parts_of(pairs, target)
    # Edges of one target together, so that a batch needs few gradients.
    order = sorted(range(len(parts.pairs)), key=lambda p: parts.pairs[p].target)
    batches = [
        _split(frozen, [parts.pairs[p] for p in order[start : start + EDGES]], target)
        for start in range(0, len(order), EDGES)
    ]
    back = torch.tensor(order, device=weight_E.device).argsort()
    direct_P, attention_PLH, ov_PLH = (torch.cat(batch)[back] for batch in zip(*batches, strict=True))
    if len(parts.pairs) == len(pairs):
        return Split(weight_E, direct_P, attention_PLH, ov_PLH)
    rows = _of_rows(parts, attention_PLH, ov_PLH, len(pairs))
    return Split(weight_E, parts.summed(direct_P, len(pairs)), *rows)


def _of_rows(
    parts: Parts, attention_PLH: torch.Tensor, ov_PLH: torch.Tensor, n_edges: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and OV of edges whose target reads at several positions, [E, L, H] each: the mean attention
    over its rows, weighed by the size of what each would carry, and what makes up the head's part with it."""
    carried_ELH = parts.summed(attention_PLH * ov_PLH, n_edges)
    size_ELH = parts.summed(ov_PLH.abs(), n_edges)
    attention_ELH = parts.summed(attention_PLH * ov_PLH.abs(), n_edges) / size_ELH
    rows_E = parts.summed(torch.ones_like(ov_PLH), n_edges)
    plain_ELH = parts.summed(attention_PLH, n_edges) / rows_E  # of heads that carry nothing
    attention_ELH = torch.where(size_ELH > 0, attention_ELH, plain_ELH)
    ov_ELH = torch.where(attention_ELH > 0, carried_ELH / attention_ELH, 0.0)
    return attention_ELH, ov_ELH


class Ends(NamedTuple):
    """The distinct ends of some edges, and which of them each edge has."""

    reads: EdgeTargets
    writes: EdgeSources
    row_E: torch.Tensor
    column_E: torch.Tensor


def ends_of(frozen: FrozenPrompt, pairs: Sequence[Pair], target: GradientRows) -> Ends:
    """The distinct targets and sources of some edges."""
    targets = {ref: i for i, ref in enumerate(dict.fromkeys(pair.target for pair in pairs))}
    sources = {ref: i for i, ref in enumerate(dict.fromkeys(pair.source for pair in pairs))}
    device = target.gradient_Rd.device
    row_E = torch.tensor([targets[pair.target] for pair in pairs], device=device)
    column_E = torch.tensor([sources[pair.source] for pair in pairs], device=device)
    return Ends(targets_of(frozen, [*targets], target), sources_of(frozen, [*sources]), row_E, column_E)


def _split(
    frozen: FrozenPrompt, pairs: Sequence[Pair], target: GradientRows
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """direct_E, attention_ELH and ov_ELH of one part of the edges."""
    reads, writes, row_E, column_E = ends_of(frozen, pairs, target)
    read_LRd, write_LSd = gradients_by_layer(frozen, reads), sources_by_layer(frozen, writes)
    at_E, from_E = reads.position_R[row_E], writes.position_S[column_E]
    direct_E = reads.gradient_Rd.new_zeros(len(pairs))
    for k, source_Sd in enumerate(write_LSd):
        here = ((reads.level_R[row_E] == k) & (at_E == from_E)).nonzero()[:, 0]
        direct_E[here] = (reads.gradient_Rd[row_E[here]] * source_Sd[column_E[here]]).sum(-1)
    top_E, level_E = attention_top(frozen.replacement, reads.level_R)[row_E], writes.level_S[column_E]
    attention, ov = [], []
    for k, (maps, layer) in enumerate(zip(frozen.replacement.layers, frozen.layers, strict=True)):
        out_Rd = attn_read(layer, read_LRd[k], reads.position_R)
        in_Sd = write_LSd[k] * layer.attn_scale_T[writes.position_S, None]
        asked_RHk = torch.einsum("rd,hkd->rhk", out_Rd, maps.O_Hkd)
        value_SHk = torch.einsum("sd,hkd->shk", in_Sd, maps.V_Hkd)
        between_E = (level_E <= k) & (k < top_E)
        ov.append((asked_RHk[row_E] * value_SHk[column_E]).sum(-1) * between_E[:, None])
        attention.append(layer.pattern_HTT[:, at_E, from_E].T)
    return direct_E, torch.stack(attention, 1), torch.stack(ov, 1)


class AttendedPositions(NamedTuple):
    """The QK side of a head at a position: what it attends to, most first; the source's `rank`, from 1."""

    positions: tuple[int, ...]
    weights: tuple[float, ...]
    rank: int


def attended(
    frozen: FrozenPrompt, layer: int, head: int, at: int, source: int, top: int
) -> AttendedPositions:
    """What head (layer, head) attends to from position `at`, and the rank of `source` among all positions."""
    weight_T = frozen.layers[layer].pattern_HTT[head, at, : at + 1]
    order = torch.argsort(weight_T, descending=True, stable=True)
    rank = int((order == source).nonzero()[0, 0]) + 1
    kept = order[:top]
    return AttendedPositions(tuple(kept.tolist()), tuple(weight_T[kept].tolist()), rank)


class HeadTotals(NamedTuple):
    """What the heads carry of many edges, all in units of the trace's target.

    `through_LH`: signed, paths through exactly this head. `size_LH`: the same in absolute values, so that
    edges that oppose each other do not cancel. `direct`, `one_head`, `more`: (signed, absolute) of paths
    through no head, exactly one, and two or more. `whole`: the edges themselves, in absolute values.
    """

    through_LH: torch.Tensor
    size_LH: torch.Tensor
    direct: tuple[float, float]
    one_head: tuple[float, float]
    more: tuple[float, float]
    whole: float


def head_totals(split: Split, slope_E: torch.Tensor) -> HeadTotals:
    """Add up split edges, each times the slope of the trace's target with respect to the edge's target.

    The slope (∂target/∂pre-activation over all paths, 1 for the target itself) puts edges into different
    features into one unit. A path counts once for each of its edges.
    """
    head_ELH = split.head_ELH * slope_E[:, None, None]
    one_E = head_ELH.sum((1, 2))

    def both(part_E: torch.Tensor) -> tuple[float, float]:
        return float(part_E.sum()), float(part_E.abs().sum())

    return HeadTotals(
        head_ELH.sum(0),
        head_ELH.abs().sum(0),
        both(split.direct_E * slope_E),
        both(one_E),
        both(split.more_E * slope_E),
        float((split.weight_E * slope_E).abs().sum()),
    )


SOURCES = 16  # carried up together, [S, T, d] each


@torch.no_grad()
def last_heads(frozen: FrozenPrompt, pairs: Sequence[Pair], target: GradientRows) -> torch.Tensor:
    """What reaches the target of each edge through each head last, [E, L, H].

    An edge is its direct part and the sum of these. Raises ScxError for a pair that can have no edge or a
    source that is not active.
    """
    check_pairs(pairs, target)
    parts = parts_of(pairs, target)
    ends = ends_of(frozen, parts.pairs, target)
    n_heads = frozen.replacement.lm.facts.n_heads
    out_ELH = target.gradient_Rd.new_zeros(len(parts.pairs), len(frozen.layers), n_heads)
    for columns in torch.arange(len(ends.writes.level_S), device=out_ELH.device).split(SOURCES):
        here = torch.isin(ends.column_E, columns).nonzero()[:, 0]
        writes = EdgeSources(*(part[columns] for part in ends.writes))
        place_E = torch.searchsorted(columns, ends.column_E[here])
        part = ends._replace(writes=writes, row_E=ends.row_E[here], column_E=place_E)
        out_ELH[here] = _carried_up(frozen, part)
    return parts.summed(out_ELH, len(pairs))


def _carried_up(frozen: FrozenPrompt, ends: Ends) -> torch.Tensor:
    """`last_heads` of a batch of sources, [E, L, H]."""
    rep, (reads, writes, row_E, column_E) = frozen.replacement, ends
    every = torch.arange(len(writes.level_S), device=row_E.device)
    at_E, top_E = reads.position_R[row_E], attention_top(rep, reads.level_R)[row_E]
    x_STd = writes.source_Sd.new_zeros(len(every), frozen.n_positions, writes.source_Sd.shape[1])
    read_LRd, out = gradients_by_layer(frozen, reads), []
    for k, (maps, layer) in enumerate(zip(rep.layers, frozen.layers, strict=True)):
        x_STd[every, writes.position_S] += writes.source_Sd * (writes.level_S == k)[:, None]
        mixed_SHTk, written_STd = attention_forward(maps, layer, x_STd)
        asked_RHk = torch.einsum("rd,hkd->rhk", attn_read(layer, read_LRd[k], reads.position_R), maps.O_Hkd)
        part_EH = (mixed_SHTk[column_E, :, at_E] * asked_RHk[row_E]).sum(-1)
        out.append(part_EH * (k < top_E)[:, None])
        reads_STd = x_STd if rep.parallel else x_STd + written_STd
        x_STd = x_STd + written_STd + skip_forward(maps, layer, reads_STd)
    return torch.stack(out, 1)
