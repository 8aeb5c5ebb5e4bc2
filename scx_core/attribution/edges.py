"""The table of exact direct edges into the chosen features and the target (method §5).

Rows come in waves (direct_edges.py); of each the edges between chosen nodes are kept and the others summed.
Memory: C² + rows × (L·T) + one wave × active features of a block.
Legend: R rows, C chosen features, P positions of a wave, T positions, L layers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from scx_core.attribution.direct_edges import LayerEdges, OtherEdges, direct_edges, target_edges
from scx_core.attribution.local_replacement_model import feature_reads
from scx_core.attribution.node_selection import (
    KnownRows,
    RowsOfWave,
    SelectedFeatures,
    Wave,
    layer_starts,
    waves,
)
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
    """The chosen features of one layer: the first column, their positions, padded rows (also in main memory:
    a card would be waited for at every wave) and places."""

    first: int
    position_C: torch.Tensor
    row_C: torch.Tensor
    slot_C: torch.Tensor
    rows: list[int]


class _Rows(NamedTuple):
    """Which rows of the table those of a wave are; where not all of them are in it: the places of those that
    are, ascending, and the same in main memory."""

    number_R: torch.Tensor
    there_N: torch.Tensor | None = None
    here_N: np.ndarray | None = None

    def among(self, first: int, last: int) -> torch.Tensor | None:
        """The places of those between `first` and `last`, counted from `first`; None: all."""
        if self.there_N is None or self.here_N is None:
            return None
        a, b = np.searchsorted(self.here_N, (first, last)).tolist()
        return self.there_N[a:b] - first


def _columns(sources: Sources, chosen: SelectedFeatures, starts: list[int]) -> list[_Columns]:
    out = []
    for layer in range(len(sources.frozen.layers)):
        part = slice(starts[layer], starts[layer + 1])
        at, index_C = sources.padded[layer], chosen.index_C[part]
        place = at.row_N[index_C], at.slot_N[index_C]
        out.append(_Columns(starts[layer], chosen.position_C[part], *place, place[0].tolist()))
    return out


def _picked(part: LayerEdges, columns: _Columns) -> torch.Tensor:
    """Edges from the chosen features of one layer that these rows can see, [R, C]."""
    if part.row_X is None or part.slot_row_X is None:
        seen = bisect_left(columns.rows, len(part.edge))
        return part.edge[columns.row_C[:seen], :, columns.slot_C[:seen]].T
    picked_RC = part.edge.new_zeros(part.last - part.first, len(columns.row_C))
    x, c = (part.slot_row_X[:, None] == columns.row_C[None, :]).nonzero(as_tuple=True)
    picked_RC[part.row_X[x], c] = part.edge[x, columns.slot_C[c]]
    return picked_RC


def _fill(table: EdgeTable, columns: list[_Columns], rows: _Rows, part: LayerEdges) -> None:
    """Edges from the features of one block into rows of a wave."""
    row_R, picked_RC = rows.number_R[part.first : part.last], _picked(part, columns[part.layer])
    rest_R = part.over_features(part.edge) - picked_RC.sum(1)
    rest_abs_R = part.over_features(part.edge.abs()) - picked_RC.abs().sum(1)
    wanted = rows.among(part.first, part.last)
    if wanted is not None:
        row_R, picked_RC, rest_R, rest_abs_R = (
            of_R[wanted] for of_R in (row_R, picked_RC, rest_R, rest_abs_R)
        )
    start = columns[part.layer].first
    table.feature_RC[row_R, start : start + picked_RC.shape[1]] = picked_RC
    table.rest_R.index_add_(0, row_R, rest_R)
    table.rest_abs_R.index_add_(0, row_R, rest_abs_R.clamp(min=0))


def _fill_others(table: EdgeTable, rows: _Rows, found: OtherEdges) -> None:
    wanted, P = rows.among(0, len(rows.number_R)), found.token_RP.shape[1]
    row_R, parts = rows.number_R, list(found)
    if wanted is not None:
        row_R, parts = row_R[wanted], [of_R[wanted] for of_R in parts]
    error_RLP, token_RP, constant_R = parts
    table.error_RLT[row_R, :, :P] = error_RLP
    table.token_RT[row_R, :P] = token_RP
    table.bias_R.index_add_(0, row_R, constant_R)


def _fill_known(table: EdgeTable, columns: list[_Columns], rows: _Rows, found: RowsOfWave) -> None:
    for part in found.features:
        _fill(table, columns, rows, part)
    _fill_others(table, rows, found.other)


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

    Rows that the choice of nodes has made already are taken from there. `only`: fill no more than so many
    waves of rows, evenly taken (for timing); the others stay 0.
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
    columns = _columns(sources, chosen, layer_starts(chosen, n_layers))
    table.bias_R[n], table.value_R[n] = target_bias, value
    target_1, known = _Rows(chosen.layer_C.new_full((1,), n)), sources.known
    sources.known = None
    if known is not None and known.target is target:
        _fill_known(table, columns, target_1, known.of_target)
        todo = _from_pilot(table, sources, columns, chosen, known)
    else:
        other = target_edges(sources, target, partial(_fill, table, columns, target_1))
        _fill_others(table, target_1, other)
        todo = torch.arange(n, device=chosen.layer_C.device)
    left = SelectedFeatures(*(part[todo] for part in chosen))
    all_waves: Iterable[Wave] = waves(sources, left)
    if only is not None:
        listed = list(all_waves)
        all_waves = listed[only // 2 :: -(-len(listed) // only)]
    for wave in all_waves:
        rows = _Rows(todo[wave.number_R])
        _values(table, sources, chosen, rows, wave)
        other = direct_edges(sources, wave.batches, partial(_fill, table, columns, rows))
        _fill_others(table, rows, other)
    return table


def _from_pilot(
    table: EdgeTable,
    sources: Sources,
    columns: list[_Columns],
    chosen: SelectedFeatures,
    known: KnownRows,
) -> torch.Tensor:
    """Fill the rows that were made for the choice; the numbers of those that were not."""
    number = {place: c for c, place in enumerate(zip(*_places(chosen), strict=True))}
    of_pilot = [number.get(place, -1) for place in zip(*_places(known.pilot), strict=True)]
    number_N, left = np.array(of_pilot, dtype=np.int64), np.ones(len(chosen.layer_C), dtype=bool)
    device = chosen.layer_C.device
    for found in known.waves:
        number_R = number_N[found.wave.here_R]
        here_N = np.flatnonzero(number_R >= 0)
        rows = _Rows(torch.from_numpy(number_R).to(device), torch.from_numpy(here_N).to(device), here_N)
        _fill_known(table, columns, rows, found)
        _values(table, sources, chosen, rows, found.wave)
        left[number_R[here_N]] = False
    return torch.from_numpy(np.flatnonzero(left)).to(device)


def _places(chosen: SelectedFeatures) -> tuple[list[int], list[int]]:
    return chosen.layer_C.tolist(), chosen.index_C.tolist()


def _values(table: EdgeTable, sources: Sources, chosen: SelectedFeatures, rows: _Rows, wave: Wave) -> None:
    """What rows add up to, and their own biases."""
    frozen, first = sources.frozen, 0
    for batch in wave.batches:  # of one layer each
        last = first + len(batch.position_R)
        row_R, wanted = rows.number_R[first:last], rows.among(first, last)
        row_R = row_R if wanted is None else row_R[wanted]
        maps, f = frozen.replacement.layers[batch.layer], frozen.layers[batch.layer]
        _, bias_R = feature_reads(maps, f, chosen.feature_C[row_R], chosen.position_C[row_R])
        table.bias_R.index_add_(0, row_R, bias_R)
        table.value_R[row_R] = f.value_N[chosen.index_C[row_R]]
        first = last
