"""Edges split by the head that their paths pass last, on the way from the source to the target (method §5).

Every path through one head or more has one last head, which writes at the target's position; so these parts
and the direct part add up to the edge, however many heads the paths pass. One forward pass of what a source
writes, through residual stream, skip terms and all frozen heads, gives them for every head at once.
Legend: E edges, S sources of a batch, L layers, H heads, k head width, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scx_core.attribution.edge_heads import Ends, Pair, check_pairs, ends_of, parts_of
from scx_core.attribution.endpoints import Writes, attention_top, reads_by_layer
from scx_core.attribution.local_replacement_model import FrozenPrompt, attn_read
from scx_core.attribution.residual_stream import attention_forward, skip_forward
from scx_core.attribution.source_vectors import Rows

SOURCES = 16  # carried up together, [S, T, d] each


@torch.no_grad()
def last_heads(frozen: FrozenPrompt, pairs: Sequence[Pair], target: Rows) -> torch.Tensor:
    """What reaches the target of each edge through each head last, [E, L, H].

    An edge is its direct part and the sum of these. Raises ScxError for a pair that can have no edge or a
    source that is not active.
    """
    check_pairs(pairs, target)
    parts = parts_of(pairs, target)
    ends = ends_of(frozen, parts.pairs, target)
    n_heads = len(frozen.layers[0].pattern_HTT)
    out_ELH = target.read_Rd.new_zeros(len(parts.pairs), len(frozen.layers), n_heads)
    for columns in torch.arange(len(ends.writes.level_S), device=out_ELH.device).split(SOURCES):
        here = torch.isin(ends.column_E, columns).nonzero()[:, 0]
        writes = Writes(*(part[columns] for part in ends.writes))
        place_E = torch.searchsorted(columns, ends.column_E[here])
        part = ends._replace(writes=writes, row_E=ends.row_E[here], column_E=place_E)
        out_ELH[here] = _carried_up(frozen, part)
    return parts.summed(out_ELH, len(pairs))


def _carried_up(frozen: FrozenPrompt, ends: Ends) -> torch.Tensor:
    """`last_heads` of a batch of sources, [E, L, H]."""
    rep, (reads, writes, row_E, column_E) = frozen.replacement, ends
    every = torch.arange(len(writes.level_S), device=row_E.device)
    at_E, top_E = reads.position_R[row_E], attention_top(rep, reads.level_R)[row_E]
    x_STd = writes.write_Sd.new_zeros(len(every), frozen.n_positions, writes.write_Sd.shape[1])
    read_LRd, out = reads_by_layer(frozen, reads), []
    for k, (maps, layer) in enumerate(zip(rep.layers, frozen.layers, strict=True)):
        x_STd[every, writes.position_S] += writes.write_Sd * (writes.level_S == k)[:, None]
        mixed_SHTk, written_STd = attention_forward(maps, layer, x_STd)
        asked_RHk = torch.einsum("rd,hkd->rhk", attn_read(layer, read_LRd[k], reads.position_R), maps.O_Hkd)
        part_EH = (mixed_SHTk[column_E, :, at_E] * asked_RHk[row_E]).sum(-1)
        out.append(part_EH * (k < top_E)[:, None])
        reads_STd = x_STd if rep.parallel else x_STd + written_STd
        x_STd = x_STd + written_STd + skip_forward(maps, layer, reads_STd)
    return torch.stack(out, 1)
