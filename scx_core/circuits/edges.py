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

from scx_core.circuits.frozen import FrozenPrompt, attention_back, skip_back

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
    """Write vectors z·W_dec of one layer by position, padded: [T, K, d], and each feature's slot k."""

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
    write_TKd[f.position_N, slot_N] = maps.dec_Fd[f.feature_N] * f.value_N[:, None]
    return _Writes(write_TKd, slot_N)


def _carry(frozen, table: EdgeTable, chosen: Chosen, writes: list[_Writes], rows, G_RPd, top: int) -> None:
    """Carry read vectors on the stream into block `top` down to the embeddings, filling the table's rows."""
    rep, n_positions = frozen.replacement, G_RPd.shape[1]
    bias_R = table.bias_R[rows]
    for k in range(top - 1, -1, -1):
        maps, layer = rep.layers[k], frozen.layers[k]
        edge_PRK = G_RPd.transpose(0, 1) @ writes[k].write_TKd[:n_positions].transpose(1, 2)
        here = ((chosen.layer_C == k) & (chosen.position_C < n_positions)).nonzero()[:, 0]
        slot = writes[k].slot_N[chosen.index_C[here]]
        picked_CR = edge_PRK[chosen.position_C[here], :, slot]
        table.feature_RC[rows[:, None], here] = picked_CR.T
        table.rest_R[rows] += edge_PRK.sum((0, 2)) - picked_CR.sum(0)
        table.rest_abs_R[rows] += (edge_PRK.abs().sum((0, 2)) - picked_CR.abs().sum(0)).clamp(min=0)
        table.error_RLT[rows, k, :n_positions] = (G_RPd * layer.error_Td[:n_positions]).sum(-1)
        bias_R += G_RPd.sum(1) @ maps.dec_bias_d
        skipped_RPd = skip_back(maps, layer, G_RPd)
        reads_attention = G_RPd if rep.parallel else G_RPd + skipped_RPd
        bias_R += (reads_attention * layer.attn_bias_Td[:n_positions]).sum((1, 2))
        G_RPd = G_RPd + skipped_RPd + attention_back(maps, layer, reads_attention)
    table.token_RT[rows, :n_positions] = (G_RPd * frozen.embedding_Td[:n_positions]).sum(-1)
    table.bias_R[rows] = bias_R


def _feature_rows(frozen, table: EdgeTable, chosen: Chosen, writes: list[_Writes], layer: int) -> None:
    """Fill the rows of the chosen features of one layer."""
    rep, maps, f = frozen.replacement, frozen.replacement.layers[layer], frozen.layers[layer]
    all_rows = (chosen.layer_C == layer).nonzero()[:, 0]
    for rows in all_rows.split(ROWS):
        position, feature = chosen.position_C[rows], chosen.feature_C[rows]
        G_RPd = frozen.embedding_Td.new_zeros(
            len(rows), int(position.max()) + 1, frozen.embedding_Td.shape[1]
        )
        read_Rd = maps.enc_Fd[feature] * f.mlp_scale_T[position, None]
        G_RPd[torch.arange(len(rows), device=position.device), position] = read_Rd
        table.bias_R[rows] = maps.enc_bias_F[feature]
        table.value_R[rows] = f.pre_N[chosen.index_C[rows]]
        if not rep.parallel:
            # Here the MLP reads the stream after this block's own attention (method §1).
            table.bias_R[rows] += (G_RPd * f.attn_bias_Td[: G_RPd.shape[1]]).sum((1, 2))
            G_RPd = G_RPd + attention_back(maps, f, G_RPd)
        _carry(frozen, table, chosen, writes, rows, G_RPd, layer)


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
    writes = [_writes(frozen, layer) for layer in range(layers)]
    last = torch.tensor([n], device=read_d.device)
    table.bias_R[n], table.value_R[n] = read_bias, value
    G_1Td = new(1, length, len(read_d))
    G_1Td[0, -1] = read_d
    _carry(frozen, table, chosen, writes, last, G_1Td, layers)
    for layer in range(layers):
        _feature_rows(frozen, table, chosen, writes, layer)
    return table
