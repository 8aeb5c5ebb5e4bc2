"""The table of exact direct edges into the chosen features and the target (method §5).

Rows come in batches from `all_edges`; of each batch the edges between chosen nodes are kept and the others
summed. Memory: C² + rows × (L·T) + one batch × active features.
Legend: R rows, C chosen features, P positions of a batch, T positions, L layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from scx_core.attribution.backward import BatchEdges, LayerEdges, all_edges, target_edges
from scx_core.attribution.local_replacement_model import feature_reads
from scx_core.attribution.node_selection import RowBatch, SelectedFeatures, batches, layer_starts
from scx_core.attribution.residual_stream import GradientRows, Sources


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

    def max_relative_error(self, among_R: torch.Tensor | None = None) -> float:
        """Largest |sum − value| over the rows (`among_R`, bool: over some), relative to the row's |value|."""
        value_R = self.value_R.double()
        error_R = (self.sums() - value_R).abs() / value_R.abs().clamp(min=1e-12)
        return float((error_R if among_R is None else error_R[among_R]).max())


class _Columns(NamedTuple):
    """The chosen features of one layer: the first column, their positions, padded rows and places."""

    first: int
    position_C: torch.Tensor
    row_C: torch.Tensor
    slot_C: torch.Tensor


def _columns(sources: Sources, chosen: SelectedFeatures, starts: list[int]) -> list[_Columns]:
    out = []
    for layer in range(len(sources.frozen.layers)):
        part = slice(starts[layer], starts[layer + 1])
        at, index_C = sources.padded[layer], chosen.index_C[part]
        place = at.row_N[index_C], at.slot_N[index_C]
        out.append(_Columns(starts[layer], chosen.position_C[part], *place))
    return out


def _picked(part: LayerEdges, n_rows: int, columns: _Columns) -> torch.Tensor:
    """Edges from the chosen features of one layer that these rows can see, [R, C]."""
    if part.row_X is None or part.slot_row_X is None:
        seen = int(torch.searchsorted(columns.row_C, len(part.edge)))
        return part.edge[columns.row_C[:seen], :, columns.slot_C[:seen]].T
    picked_RC = part.edge.new_zeros(n_rows, len(columns.row_C))
    x, c = (part.slot_row_X[:, None] == columns.row_C[None, :]).nonzero(as_tuple=True)
    picked_RC[part.row_X[x], c] = part.edge[x, columns.slot_C[c]]
    return picked_RC


def _fill(table: EdgeTable, found: BatchEdges, columns: list[_Columns], first: int) -> None:
    n_rows, P = found.token_RP.shape
    last = first + n_rows
    for part in found.features:
        picked_RC = _picked(part, n_rows, columns[part.layer])
        start = columns[part.layer].first
        table.feature_RC[first:last, start : start + picked_RC.shape[1]] = picked_RC
        table.rest_R[first:last] += part.over_features(part.edge, n_rows) - picked_RC.sum(1)
        rest_R = part.over_features(part.edge.abs(), n_rows) - picked_RC.abs().sum(1)
        table.rest_abs_R[first:last] += rest_R.clamp(min=0)
    table.error_RLT[first:last, :, :P] = found.error_RLP
    table.token_RT[first:last, :P] = found.token_RP
    table.bias_R[first:last] += found.constant_R


@torch.no_grad()
def edge_table(
    sources: Sources,
    chosen: SelectedFeatures,
    target: GradientRows,
    target_bias: float,
    value: float,
    only: int | None = None,
) -> EdgeTable:
    """All direct edges into the chosen features and the target.

    `only`: fill no more than so many batches of rows, evenly taken (for timing); the others stay 0.
    """
    frozen = sources.frozen
    n, length, n_layers = len(chosen.layer_C), frozen.n_positions, len(frozen.layers)
    new = frozen.embedding_Td.new_zeros
    table = EdgeTable(
        feature_RC=new(n + 1, n),
        error_RLT=new(n + 1, n_layers, length),
        token_RT=new(n + 1, length),
        bias_R=new(n + 1),
        rest_R=new(n + 1),
        rest_abs_R=new(n + 1),
        value_R=new(n + 1),
    )
    starts = layer_starts(chosen, n_layers)
    columns = _columns(sources, chosen, starts)
    table.bias_R[n], table.value_R[n] = target_bias, value
    _fill(table, target_edges(sources, target), columns, n)
    todo = [batch for layer in range(n_layers) for batch in batches(frozen, chosen, layer, starts)]
    for batch in todo if only is None else todo[only // 2 :: -(-len(todo) // only)]:
        _feature_rows(table, sources, chosen, batch, columns)
    return table


def _feature_rows(
    table: EdgeTable, sources: Sources, chosen: SelectedFeatures, batch: RowBatch, columns: list[_Columns]
) -> None:
    """Fill the rows of a batch of chosen features."""
    layer, part = batch.rows.layer, slice(batch.first, batch.last)
    maps, f = sources.frozen.replacement.layers[layer], sources.frozen.layers[layer]
    _, table.bias_R[part] = feature_reads(maps, f, chosen.feature_C[part], chosen.position_C[part])
    table.value_R[part] = f.value_N[chosen.index_C[part]]
    _fill(table, all_edges(sources, batch.rows), columns, batch.first)
