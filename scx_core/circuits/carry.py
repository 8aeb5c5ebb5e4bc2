"""Read vectors carried down the frozen model, layer by layer: one row of edges each (method §5).

A row reads the residual stream at one position. Below one block its read vectors G at all positions are
few vectors, each spread over the positions by the attention patterns on its path:
    G[r, p] = Σ_j weight[position of r, j, p] · unit[r, j]
so rows at the same position share the weights, and no product runs over positions × width × width. After a
few blocks there are as many paths as dimensions; from there on G is carried as it is ("dense").
Legend: R rows of a batch, U their positions, J paths, P positions that they can see, T positions, H heads,
k head width, d residual width, K the most active features at one position of a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.circuits.frozen import FrozenLayer, FrozenPrompt, attn_read, feature_writes, mlp_read, skip_back
from scx_core.circuits.replacement import LayerMaps

# Writes of all layers are kept up to this size; beyond, a layer's are made again for every batch.
KEPT_BYTES = 400_000_000
# Paths a row may have before its read vectors are carried as they are, as a share of the width.
PATHS = 0.34


class Rows(NamedTuple):
    """Read vectors [R, d] on the stream that enters block `layer`, at one position each, sorted by it.

    `inside`: they read behind the attention of block `layer` (the MLP of a sequential block).
    """

    read_Rd: torch.Tensor
    position_R: torch.Tensor
    layer: int
    inside: bool = False


class Sources:
    """The writes of every block of one prompt, made when asked for.

    `slots`: for each layer the place of its active features among those of their position [N], and K.
    """

    def __init__(self, frozen: FrozenPrompt) -> None:
        self.frozen = frozen
        self.slots = [_slots(f, frozen.n_positions) for f in frozen.layers]
        most = max((len(f.position_N) for f in frozen.layers), default=0)
        size = frozen.embedding_Td.element_size() * frozen.embedding_Td.shape[1]
        self._kept: dict[int, torch.Tensor] | None = (
            {} if 2 * most * size * len(frozen.layers) < KEPT_BYTES else None
        )

    def writes(self, layer: int) -> torch.Tensor:
        """What a block adds to the stream, by position, [T, K + 2, d]: the active features, padded; the
        reconstruction error; what it adds whatever the tokens are."""
        if self._kept is None:
            return self._make(layer)
        if layer not in self._kept:
            self._kept[layer] = self._make(layer)
        return self._kept[layer]

    def _make(self, layer: int) -> torch.Tensor:
        frozen, maps, f = self.frozen, self.frozen.replacement.layers[layer], self.frozen.layers[layer]
        slot_N, width = self.slots[layer]
        write_TSd = frozen.embedding_Td.new_zeros(frozen.n_positions, width + 2, frozen.embedding_Td.shape[1])
        write_TSd[f.position_N, slot_N] = feature_writes(maps, f)
        write_TSd[:, -2] = f.error_Td
        write_TSd[:, -1] = _constant(frozen, layer)
        return write_TSd


def last_rows(frozen: FrozenPrompt, read_d: torch.Tensor) -> Rows:
    """A read vector on the last residual stream at the last position: a weighted sum of logits."""
    last = torch.tensor([frozen.n_positions - 1], device=read_d.device)
    return Rows(read_d[None], last, len(frozen.layers))


def _slots(f: FrozenLayer, n_positions: int) -> tuple[torch.Tensor, int]:
    """The place of each active feature among those of its position, [N], and K."""
    count_T = torch.bincount(f.position_N, minlength=n_positions)
    first_T = count_T.cumsum(0) - count_T
    slot_N = torch.arange(len(f.position_N), device=count_T.device) - first_T[f.position_N]
    return slot_N, max(1, int(count_T.max()))


def _constant(frozen: FrozenPrompt, layer: int) -> torch.Tensor:
    """What block `layer` adds to the stream at each position whatever the tokens are, [T, d]."""
    maps, f = frozen.replacement.layers[layer], frozen.layers[layer]
    constant_Td = f.attn_bias_Td + mlp_read(f, maps.dec_bias_d.expand_as(f.attn_bias_Td))
    if not frozen.replacement.parallel:  # the skip term of this block reads what its attention wrote
        constant_Td = constant_Td + skip_forward(maps, f, f.attn_bias_Td)
    return constant_Td


def skip_forward(maps: LayerMaps, f: FrozenLayer, x_Td: torch.Tensor) -> torch.Tensor:
    """What the skip term adds to the stream for x on the stream that the MLP reads (zero without one)."""
    if maps.skip_dd is None:
        return torch.zeros_like(x_Td)
    return mlp_read(f, (x_Td * f.mlp_scale_T[: len(x_Td), None]) @ maps.skip_dd.T)


class Spread(NamedTuple):
    """Read vectors as few vectors a row, `unit_RJd`, and where each stands with which weight,
    `weight_UJP`; row r has the weights `at_R[r]`."""

    weight_UJP: torch.Tensor
    unit_RJd: torch.Tensor
    at_R: torch.Tensor

    def dense(self, unit_RJx: torch.Tensor | None = None) -> torch.Tensor:
        """[R, P, d], or [R, P, x] of other vectors with the same weights."""
        unit = self.unit_RJd if unit_RJx is None else unit_RJx
        return torch.bmm(self.weight_UJP[self.at_R].transpose(1, 2), unit)

    def plus(self, other: Spread) -> Spread:
        """Both together."""
        return Spread(
            torch.cat([self.weight_UJP, other.weight_UJP], 1),
            torch.cat([self.unit_RJd, other.unit_RJd], 1),
            self.at_R,
        )


def _start(rows: Rows, n_positions: int) -> Spread:
    places_U, at_R = rows.position_R.unique(return_inverse=True)
    weight_UJP = rows.read_Rd.new_zeros(len(places_U), 1, n_positions)
    weight_UJP[torch.arange(len(places_U), device=places_U.device), 0, places_U] = 1.0
    return Spread(weight_UJP, rows.read_Rd[:, None], at_R)


def _scaled(weight_UJP: torch.Tensor, *scales: torch.Tensor | None) -> torch.Tensor:
    for scale_T in scales:
        if scale_T is not None:
            weight_UJP = weight_UJP * scale_T[: weight_UJP.shape[-1]]
    return weight_UJP


def _skip(maps: LayerMaps, f: FrozenLayer, state: Spread) -> Spread:
    assert maps.skip_dd is not None  # asked for only where there is one
    weight_UJP = _scaled(state.weight_UJP, f.mlp_out_scale_T, f.mlp_scale_T)
    return Spread(weight_UJP, state.unit_RJd @ maps.skip_dd, state.at_R)


def _head_reads(maps: LayerMaps, read: torch.Tensor) -> torch.Tensor:
    """Read vectors on the output of attention → on each head's values, [..., H·k]."""
    return read @ maps.O_Hkd.flatten(0, 1).T


def _attention(maps: LayerMaps, f: FrozenLayer, state: Spread) -> Spread:
    """Every path goes on through every head."""
    heads, width, d = maps.V_Hkd.shape
    R, J, _ = state.unit_RJd.shape
    value_HNk = _head_reads(maps, state.unit_RJd).view(R * J, heads, width).transpose(0, 1)
    unit_HNd = torch.bmm(value_HNk, maps.V_Hkd)
    unit_RJd = unit_HNd.view(heads, R, J, d).permute(1, 2, 0, 3).reshape(R, J * heads, d)
    return Spread(_looked_at(f, state.weight_UJP), unit_RJd, state.at_R)


def _looked_at(f: FrozenLayer, weight_UJP: torch.Tensor) -> torch.Tensor:
    """Weights one block further down: through each head's pattern, [U, J·H, P]."""
    U, J, P = weight_UJP.shape
    out_UJP = _scaled(weight_UJP, f.attn_out_scale_T)
    looked_HNP = out_UJP.reshape(1, U * J, P) @ f.pattern_HTT[:, :P, :P]
    weight_UJHP = looked_HNP.view(-1, U, J, P).permute(1, 2, 0, 3)
    return _scaled(weight_UJHP.reshape(U, -1, P), f.attn_scale_T)


def _looked_back(f: FrozenLayer, value_RPHk: torch.Tensor) -> torch.Tensor:
    """Read vectors on heads' values at the positions that look → at those looked at, [R, H, P, k]."""
    P = value_RPHk.shape[1]
    back_RHPk = f.pattern_HTT[:, :P, :P].transpose(1, 2) @ value_RPHk.transpose(1, 2)
    return back_RHPk * f.attn_scale_T[:P, None]


def _values(maps: LayerMaps, f: FrozenLayer, state: Spread | torch.Tensor) -> torch.Tensor:
    """Read vectors on the heads' values at every position, [R, P, H, k]."""
    if isinstance(state, torch.Tensor):
        value = _head_reads(maps, attn_read(f, state))
    else:
        scaled = state._replace(weight_UJP=_scaled(state.weight_UJP, f.attn_out_scale_T))
        value = scaled.dense(_head_reads(maps, state.unit_RJd))
    return value.unflatten(-1, maps.V_Hkd.shape[:2])


def _down(
    frozen: FrozenPrompt, k: int, state: Spread | torch.Tensor, G_RPd: torch.Tensor | None
) -> Spread | torch.Tensor:
    """From the stream behind block k to the stream in front of it. `G_RPd`: the state, if made already."""
    rep, maps, f = frozen.replacement, frozen.replacement.layers[k], frozen.layers[k]
    heads, width, d = maps.V_Hkd.shape
    below: Spread | torch.Tensor
    if isinstance(state, Spread):
        skipped = state if maps.skip_dd is None else state.plus(_skip(maps, f, state))
        reads = state if rep.parallel else skipped
        after = skipped.unit_RJd.shape[1] + heads * reads.unit_RJd.shape[1]
        if after <= max(1 + heads, PATHS * d):
            return skipped.plus(_attention(maps, f, reads))
        value_RPHk = _values(maps, f, reads)
        below = skipped.dense() if G_RPd is None else G_RPd + skip_back(maps, f, G_RPd)
    else:
        below = state + skip_back(maps, f, state)
        value_RPHk = _values(maps, f, state if rep.parallel else below)
    back_RPx = _looked_back(f, value_RPHk).transpose(1, 2).flatten(2)
    return below + back_RPx @ maps.V_Hkd.reshape(heads * width, d)


def _token_edges(frozen: FrozenPrompt, state: Spread | torch.Tensor, inside: bool) -> torch.Tensor:
    """Edges from the tokens of rows on the stream behind block 0 (`inside`: behind its attention), [R, P].

    Instead of read vectors on the embeddings, the embeddings are brought to the heads' values.
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
            if isinstance(state, Spread)
            else state + skip_back(maps, f, state)
        )
    if isinstance(reads, Spread) and reads.unit_RJd.shape[1] * heads <= 4 * x_Td.shape[1]:
        P = reads.weight_UJP.shape[-1]
        read_RJHk = _head_reads(maps, reads.unit_RJd).unflatten(-1, (heads, width))
        read_HNk = read_RJHk.permute(2, 0, 1, 3).flatten(1, 2)
        part_HNP = read_HNk @ value_HTk[:, :P].transpose(1, 2)
        part_RJHP = part_HNP.unflatten(1, read_RJHk.shape[:2]).permute(1, 2, 0, 3).flatten(1, 2)
        edge_RP = (_looked_at(f, reads.weight_UJP)[reads.at_R] * part_RJHP).sum(1)
    else:
        back_RHPk = _looked_back(f, _values(maps, f, reads))
        edge_RP = torch.einsum("rhpk,hpk->rp", back_RHPk, value_HTk[:, : back_RHPk.shape[2]])
    return edge_RP + _local(state, local_Td)


def _local(state: Spread | torch.Tensor, x_Td: torch.Tensor) -> torch.Tensor:
    """G · x at every position, [R, P]."""
    if isinstance(state, torch.Tensor):
        return torch.einsum("rpd,pd->rp", state, x_Td[: state.shape[1]])
    P = state.weight_UJP.shape[-1]
    return (state.weight_UJP[state.at_R] * (state.unit_RJd @ x_Td[:P].T)).sum(1)


class LayerEdges(NamedTuple):
    """Edges of a batch from the features of block `layer`.

    `edge_PRK` from all positions, or, when `own`, [R, K] from the row's own position only.
    """

    layer: int
    own: bool
    edge: torch.Tensor


class BatchEdges(NamedTuple):
    """All edges of a batch of rows: from features, errors ([R, L, P]), tokens ([R, P]), and constants ([R],
    what the frozen model adds whatever the sources are, the row's own bias left out)."""

    features: list[LayerEdges]
    error_RLP: torch.Tensor
    token_RP: torch.Tensor
    constant_R: torch.Tensor


def all_edges(sources: Sources, rows: Rows) -> BatchEdges:
    """Every direct edge into these rows. Memory: rows × (active features below + P × d)."""
    frozen = sources.frozen
    P = int(rows.position_R[-1]) + 1
    n_rows = len(rows.position_R)
    error_RLP = rows.read_Rd.new_zeros(n_rows, len(frozen.layers), P)
    out = BatchEdges([], error_RLP, rows.read_Rd.new_zeros(n_rows, P), rows.read_Rd.new_zeros(n_rows))
    start = _start(rows, P)
    state: Spread | torch.Tensor = start
    if rows.inside:
        bias_Td = frozen.layers[rows.layer].attn_bias_Td
        out.constant_R.add_((rows.read_Rd * bias_Td[rows.position_R]).sum(-1))
        if rows.layer == 0:
            return out._replace(token_RP=_token_edges(frozen, start, inside=True))
        state = start.plus(
            _attention(frozen.replacement.layers[rows.layer], frozen.layers[rows.layer], start)
        )
    if rows.layer == 0:
        return out._replace(token_RP=_local(start, frozen.embedding_Td))
    for k in range(rows.layer - 1, -1, -1):
        if state is start:
            G_RPd = None
            _own_edges(sources, rows, k, out)
        else:
            G_RPd = state if isinstance(state, torch.Tensor) else state.dense()
            _wide_edges(sources, G_RPd, k, out)
        if k:
            state = _down(frozen, k, state, G_RPd)
    return out._replace(token_RP=_token_edges(frozen, state, inside=False))


def _own_edges(sources: Sources, rows: Rows, k: int, out: BatchEdges) -> None:
    """Edges of rows that still read at their own position only."""
    write_RSd = sources.writes(k)[rows.position_R]
    edge_RS = torch.bmm(write_RSd, rows.read_Rd[..., None])[..., 0]
    out.features.append(LayerEdges(k, True, edge_RS[:, :-2]))
    out.error_RLP[torch.arange(len(edge_RS), device=edge_RS.device), k, rows.position_R] = edge_RS[:, -2]
    out.constant_R.add_(edge_RS[:, -1])


def _wide_edges(sources: Sources, G_RPd: torch.Tensor, k: int, out: BatchEdges) -> None:
    write_PSd = sources.writes(k)[: G_RPd.shape[1]]
    edge_PRS = torch.bmm(G_RPd.transpose(0, 1), write_PSd.transpose(1, 2))
    out.features.append(LayerEdges(k, False, edge_PRS[..., :-2]))
    out.error_RLP[:, k] = edge_PRS[..., -2].T
    out.constant_R.add_(edge_PRS[..., -1].sum(0))
