"""Exact direct edges, the direct way: read vectors carried down layer by layer (method §5).

A row of edges is a read vector at one position. Rows of one layer go down together, in batches sorted by
position, and only positions up to the highest of a batch are touched. At each layer the product with
every source gives the edges; then attention (and a skip term) is transposed.
Legend: R rows of a batch, C chosen features, P positions of a batch, T positions, L layers, d width,
K the most active features at one position of a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.circuits.frozen import (
    FrozenPrompt,
    attention_back,
    attention_back_from,
    feature_writes,
    mlp_read,
    skip_back,
)

ROWS = 64


class Chosen(NamedTuple):
    """Chosen features, sorted by (layer, position): int64 [C] each; `index_C` into the frozen layer's N."""

    layer_C: torch.Tensor
    index_C: torch.Tensor
    position_C: torch.Tensor
    feature_C: torch.Tensor


class EdgeTable(NamedTuple):
    """Row r < C is the pre-activation of chosen feature r, the last row is the target; [C+1, …].

    `feature_RC`, `error_RLT`, `token_RT`, `bias_R` are signed edges. Active features that were not
    chosen are summed: `rest_R` signed, `rest_abs_R` in absolute value. `value_R` is what a row adds up to.
    """

    feature_RC: torch.Tensor
    error_RLT: torch.Tensor
    token_RT: torch.Tensor
    bias_R: torch.Tensor
    rest_R: torch.Tensor
    rest_abs_R: torch.Tensor
    value_R: torch.Tensor

    def sums(self) -> torch.Tensor:
        """Σ incoming edges + bias of each row; equals `value_R` (the accounting identity)."""
        parts = (
            self.feature_RC.sum(1),
            self.error_RLT.sum((1, 2)),
            self.token_RT.sum(1),
            self.bias_R,
            self.rest_R,
        )
        return torch.stack([part.double() for part in parts]).sum(0)

    def max_relative_error(self) -> float:
        """Largest |sum − value| over the rows, relative to the row's |value|."""
        value_R = self.value_R.double()
        return float(((self.sums() - value_R).abs() / value_R.abs().clamp(min=1e-12)).max())


class _Writes(NamedTuple):
    """Write vectors of a layer's active features by position, padded: [T, K, d], and each one's slot k."""

    write_TKd: torch.Tensor
    slot_N: torch.Tensor


def choose(frozen: FrozenPrompt, effects: tuple[torch.Tensor, ...], budget: int) -> Chosen:
    """The `budget` active features with the largest total effect on the target, in absolute value.

    The total effect is exact and costs one backward pass, so the choice needs no search.
    """
    size = torch.cat([effect.abs() for effect in effects])
    layer = torch.cat([torch.full_like(f.position_N, k) for k, f in enumerate(frozen.layers)])
    index = torch.cat([torch.arange(len(f.position_N), device=size.device) for f in frozen.layers])
    # A stable sort keeps ties in (layer, position) order: the same inputs choose the same nodes.
    kept = torch.argsort(size, descending=True, stable=True)[: min(budget, len(size))].sort().values
    position = torch.cat([f.position_N for f in frozen.layers])[kept]
    feature = torch.cat([f.feature_N for f in frozen.layers])[kept]
    return Chosen(layer[kept], index[kept], position, feature)


def _writes(frozen: FrozenPrompt, layer: int) -> _Writes:
    f, maps = frozen.layers[layer], frozen.replacement.layers[layer]
    count_T = torch.bincount(f.position_N, minlength=frozen.n_positions)
    first_T = count_T.cumsum(0) - count_T
    slot_N = torch.arange(len(f.position_N), device=count_T.device) - first_T[f.position_N]
    width = max(1, int(count_T.max()))
    write_TKd = frozen.embedding_Td.new_zeros(frozen.n_positions, width, frozen.embedding_Td.shape[1])
    write_TKd[f.position_N, slot_N] = feature_writes(maps, f)
    return _Writes(write_TKd, slot_N)


class _Fill(NamedTuple):
    """What filling the table needs at hand."""

    frozen: FrozenPrompt
    chosen: Chosen
    table: EdgeTable
    writes: list[_Writes]


def _first_block(fill: _Fill, rows, read_Rd, position_R, k: int, n_positions: int) -> torch.Tensor:
    """Block `k` right below rows that read at one position each: edges there, then the dense read vectors."""
    rep, frozen, table = fill.frozen.replacement, fill.frozen.layers[k], fill.table
    maps, writes = rep.layers[k], fill.writes[k]
    edge_RK = (writes.write_TKd[position_R] @ read_Rd[..., None])[..., 0]
    here = (fill.chosen.layer_C == k).nonzero()[:, 0]
    slot = writes.slot_N[fill.chosen.index_C[here]]
    same_RC = fill.chosen.position_C[here][None, :] == position_R[:, None]
    picked_RC = edge_RK[:, slot] * same_RC
    table.feature_RC[rows[:, None], here] = picked_RC
    _add_rest(table, rows, edge_RK.sum(1), edge_RK.abs().sum(1), picked_RC.T)
    table.error_RLT[rows, k, position_R] = (read_Rd * frozen.error_Td[position_R]).sum(-1)
    skipped_Rd = skip_back(maps, frozen, read_Rd, position_R)
    below_Rd = read_Rd + skipped_Rd
    reads_attention_Rd = read_Rd if rep.parallel else below_Rd
    table.bias_R[rows] += mlp_read(frozen, read_Rd, position_R) @ maps.dec_bias_d
    table.bias_R[rows] += (reads_attention_Rd * frozen.attn_bias_Td[position_R]).sum(-1)
    G_RPd = attention_back_from(maps, frozen, reads_attention_Rd, position_R, n_positions)
    G_RPd[torch.arange(len(rows), device=rows.device), position_R] += below_Rd
    return G_RPd


def _add_rest(table: EdgeTable, rows, sum_R, sum_abs_R, picked_CR) -> None:
    """Input from active features that were not chosen: everything less what was picked."""
    table.rest_R[rows] += sum_R - picked_CR.sum(0)
    table.rest_abs_R[rows] += (sum_abs_R - picked_CR.abs().sum(0)).clamp(min=0)


def _carry(fill: _Fill, rows, G_RPd: torch.Tensor, top: int) -> None:
    """Carry read vectors on the stream into block `top` down to the embeddings, filling the table's rows."""
    frozen, chosen, table = fill.frozen, fill.chosen, fill.table
    rep, n_positions = frozen.replacement, G_RPd.shape[1]
    for k in range(top - 1, -1, -1):
        maps, layer, writes = rep.layers[k], frozen.layers[k], fill.writes[k]
        edge_PRK = G_RPd.transpose(0, 1) @ writes.write_TKd[:n_positions].transpose(1, 2)
        here = ((chosen.layer_C == k) & (chosen.position_C < n_positions)).nonzero()[:, 0]
        picked_CR = edge_PRK[chosen.position_C[here], :, writes.slot_N[chosen.index_C[here]]]
        table.feature_RC[rows[:, None], here] = picked_CR.T
        _add_rest(table, rows, edge_PRK.sum((0, 2)), edge_PRK.abs().sum((0, 2)), picked_CR)
        table.error_RLT[rows, k, :n_positions] = _dot(G_RPd, layer.error_Td)
        table.bias_R[rows] += mlp_read(layer, G_RPd).sum(1) @ maps.dec_bias_d
        skipped_RPd = skip_back(maps, layer, G_RPd)
        reads_attention = G_RPd if rep.parallel else G_RPd + skipped_RPd
        table.bias_R[rows] += _dot(reads_attention, layer.attn_bias_Td).sum(1)
        G_RPd = G_RPd + skipped_RPd + attention_back(maps, layer, reads_attention)
    table.token_RT[rows, :n_positions] = _dot(G_RPd, frozen.embedding_Td)


def _dot(G_RPd: torch.Tensor, x_Td: torch.Tensor) -> torch.Tensor:
    """Read vectors times what stands at their positions, [R, P]."""
    return torch.einsum("rpd,pd->rp", G_RPd, x_Td[: G_RPd.shape[1]])


def _feature_rows(fill: _Fill, layer: int) -> None:
    """Fill the rows of the chosen features of one layer."""
    frozen, chosen, table = fill.frozen, fill.chosen, fill.table
    rep, maps, f = frozen.replacement, frozen.replacement.layers[layer], frozen.layers[layer]
    all_rows = (chosen.layer_C == layer).nonzero()[:, 0]
    for start in range(0, len(all_rows), ROWS):
        rows = all_rows[start : start + ROWS]
        position_R, feature_R = chosen.position_C[rows], chosen.feature_C[rows]
        n_positions = int(position_R.max()) + 1
        read_Rd = maps.enc_Fd[feature_R] * f.mlp_scale_T[position_R, None]
        table.bias_R[rows] = maps.enc_bias_F[feature_R]
        table.value_R[rows] = f.pre_N[chosen.index_C[rows]]
        if not rep.parallel:
            # Here the MLP reads the stream after this block's own attention (method §1).
            table.bias_R[rows] += (read_Rd * f.attn_bias_Td[position_R]).sum(-1)
            G_RPd = attention_back_from(maps, f, read_Rd, position_R, n_positions)
            G_RPd[torch.arange(len(rows), device=rows.device), position_R] += read_Rd
            _carry(fill, rows, G_RPd, layer)
        elif layer:
            G_RPd = _first_block(fill, rows, read_Rd, position_R, layer - 1, n_positions)
            _carry(fill, rows, G_RPd, layer - 1)
        else:
            table.token_RT[rows, position_R] = (read_Rd * frozen.embedding_Td[position_R]).sum(-1)


@torch.no_grad()
def edge_table(
    frozen: FrozenPrompt, chosen: Chosen, read_d: torch.Tensor, read_bias: float, value: float
) -> EdgeTable:
    """All direct edges into the chosen features and the target. Memory: C² + rows × (L·T) + one batch."""
    n, length, layers = len(chosen.layer_C), frozen.n_positions, len(frozen.layers)
    new = frozen.embedding_Td.new_zeros
    table = EdgeTable(
        new(n + 1, n),
        new(n + 1, layers, length),
        new(n + 1, length),
        new(n + 1),
        new(n + 1),
        new(n + 1),
        new(n + 1),
    )
    fill = _Fill(frozen, chosen, table, [_writes(frozen, layer) for layer in range(layers)])
    table.bias_R[n], table.value_R[n] = read_bias, value
    target, last = (torch.tensor([i], device=read_d.device) for i in (n, length - 1))
    _carry(fill, target, _first_block(fill, target, read_d[None], last, layers - 1, length), layers - 1)
    for layer in range(layers):
        _feature_rows(fill, layer)
    return table
