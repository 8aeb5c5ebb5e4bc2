"""Which features of a prompt become nodes: those with the most influence on the target (method §6).

Influence of a feature depends on the nodes above it, so it is passed down the layers: the features with the
largest total effect (exact, one backward pass) give the first rows; these tell, layer by layer from the top,
how much of the target's input flows through every active feature; the budget goes to the largest.
Nothing is kept per row: memory is one batch of rows × active features.
Legend: C chosen features, R rows of a batch, N active features of a layer, Q padded rows with
K places each (see residual_stream.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from scx_core.attribution.backward import BatchEdges, all_edges, target_edges
from scx_core.attribution.local_replacement_model import FrozenPrompt, feature_reads
from scx_core.attribution.residual_stream import GradientRows, Sources

ROWS = 64  # rows carried together, at most
BATCH_NUMBERS = 24_000_000  # gradients of a batch: rows × positions × width
PILOT = 4  # one in so many nodes of the budget gives rows before the choice
LEAST_PILOT = 64


class SelectedFeatures(NamedTuple):
    """Selected features, sorted by (layer, position): int64 [C] each; `index_C` into the frozen layer's N."""

    layer_C: torch.Tensor
    index_C: torch.Tensor
    position_C: torch.Tensor
    feature_C: torch.Tensor


class RowBatch(NamedTuple):
    """GradientRows `first` to `last` (exclusive) of the chosen features, all of one layer."""

    first: int
    last: int
    rows: GradientRows


def largest(frozen: FrozenPrompt, scores: tuple[torch.Tensor, ...], budget: int) -> SelectedFeatures:
    """The `budget` active features with the largest |score|; scores are one [N] per layer."""
    size = torch.cat([score.abs() for score in scores])
    layer = torch.cat([torch.full_like(f.position_N, k) for k, f in enumerate(frozen.layers)])
    index = torch.cat([torch.arange(len(f.position_N), device=size.device) for f in frozen.layers])
    kept = _top(size, min(budget, len(size)))
    position = torch.cat([f.position_N for f in frozen.layers])[kept]
    feature = torch.cat([f.feature_N for f in frozen.layers])[kept]
    return SelectedFeatures(layer[kept], index[kept], position, feature)


def _top(size: torch.Tensor, n: int) -> torch.Tensor:
    """Where the `n` largest are, ascending. Of ties at the threshold the first in (layer, position) order:
    the same inputs choose the same nodes."""
    cut = size.topk(n).values[-1] if n else size.new_tensor(torch.inf)
    above, ties = (size > cut).nonzero()[:, 0], (size == cut).nonzero()[:, 0]
    return torch.cat([above, ties[: n - len(above)]]).sort().values


def layer_starts(chosen: SelectedFeatures, n_layers: int) -> list[int]:
    """Where the rows of each layer begin, and the number of all rows at the end."""
    edges = torch.arange(n_layers + 1, device=chosen.layer_C.device)
    return torch.searchsorted(chosen.layer_C, edges).tolist()


def batches(
    frozen: FrozenPrompt, chosen: SelectedFeatures, layer: int, starts: list[int]
) -> Iterator[RowBatch]:
    """The rows of one layer in batches: pre-activations of its chosen features."""
    maps, f = frozen.replacement.layers[layer], frozen.layers[layer]
    one = frozen.n_positions * frozen.embedding_Td.shape[1]
    size = max(1, min(ROWS, BATCH_NUMBERS // one))
    for first in range(starts[layer], starts[layer + 1], size):
        last = min(first + size, starts[layer + 1])
        position_R, feature_R = chosen.position_C[first:last], chosen.feature_C[first:last]
        gradient_Rd, _ = feature_reads(maps, f, feature_R, position_R)
        yield RowBatch(
            first, last, GradientRows(gradient_Rd, position_R, layer, not frozen.replacement.parallel)
        )


def _pass_on(found: BatchEdges, influence_R: torch.Tensor, flow: list[torch.Tensor]) -> None:
    """Add what the features below get of the rows' influence to `flow`, one [Q, K] per layer."""
    # Σ |edges| of each row, biases left out, [R]
    total_R = found.error_RLP.abs().sum((1, 2)) + found.token_RP.abs().sum(1)
    for part in found.features:
        total_R = total_R + part.over_features(part.edge.abs(), len(total_R))
    share_R = influence_R / total_R.clamp(min=torch.finfo(influence_R.dtype).tiny)
    for part in found.features:
        if part.row_X is not None:
            given_XK = part.edge.abs() * share_R[part.row_X, None]
            flow[part.layer].index_put_((part.slot_row_X,), given_XK, accumulate=True)
        else:
            flow[part.layer][: len(part.edge)] += share_R @ part.edge.abs()


@torch.no_grad()
def all_influences(
    sources: Sources, pilot: SelectedFeatures, target: GradientRows
) -> tuple[torch.Tensor, ...]:
    """Influence of every active feature on the target through the rows of the target and the pilot: one [N]
    per layer. Exact for the graph in which these rows alone have input."""
    frozen, n_layers = sources.frozen, len(sources.frozen.layers)
    flow = [target.gradient_Rd.new_zeros(len(at.position_Q), at.width) for at in sources.padded]
    starts = layer_starts(pilot, n_layers)
    _pass_on(target_edges(sources, target), target.gradient_Rd.new_ones(1), flow)
    for layer in range(min(target.layer, n_layers) - 1, 0, -1):
        for batch in batches(frozen, pilot, layer, starts):
            at, index_R = sources.padded[layer], pilot.index_C[batch.first : batch.last]
            influence_R = flow[layer][at.row_N[index_R], at.slot_N[index_R]]
            _pass_on(all_edges(sources, batch.rows), influence_R, flow)
    return tuple(flow_QK[at.row_N, at.slot_N] for flow_QK, at in zip(flow, sources.padded, strict=True))


def by_influence(
    sources: Sources, effects: tuple[torch.Tensor, ...], target: GradientRows, budget: int
) -> SelectedFeatures:
    """The `budget` active features with the most influence on the target."""
    frozen = sources.frozen
    pilot = largest(frozen, effects, max(LEAST_PILOT, budget // PILOT))
    return largest(frozen, all_influences(sources, pilot, target), budget)
