"""Which features of a prompt become nodes: those with the most influence on the target (method §6).

Influence of a feature depends on the nodes above it, so it is passed down the layers: the features with the
largest total effect (exact, one backward pass) give the first rows; these tell, layer by layer from the top,
how much of the target's input flows through every active feature; the budget goes to the largest.
Nearly all of the first rows are chosen in the end, so their edges are kept where memory allows (`KnownRows`);
else memory is one wave of rows × active features.
Legend: C chosen features, R rows of a wave, N active features of a layer, Q padded rows with
K places each (see residual_stream.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from scx_core.attribution.direct_edges import LayerEdges, OtherEdges, direct_edges, target_edges
from scx_core.attribution.local_replacement_model import FrozenPrompt, feature_reads
from scx_core.attribution.residual_stream import GradientRows, Sources
from scx_core.language.patterns import KEPT

ROWS = 64  # rows of one layer carried together, at most
ROWS_OF_ALL = 256  # rows of all layers carried together, at most
WAVE_NUMBERS = 48_000_000  # gradients of a wave: rows × positions × width
LONG_WAVE_NUMBERS = 96_000_000  # of a long prompt, whose patterns are made again for each wave
KEPT_EDGES = 75_000_000  # edges of the first rows that are kept
PILOT = 4  # one in so many nodes of the budget gives rows before the choice
LEAST_PILOT = 64


class SelectedFeatures(NamedTuple):
    """Selected features, sorted by (layer, position): int64 [C] each; `index_C` into the frozen layer's N."""

    layer_C: torch.Tensor
    index_C: torch.Tensor
    position_C: torch.Tensor
    feature_C: torch.Tensor


class Wave(NamedTuple):
    """Rows that are carried down together: which of the chosen features they are, [R], also in main memory,
    and their gradients in batches of one layer, the highest first."""

    number_R: torch.Tensor
    batches: tuple[GradientRows, ...]
    here_R: np.ndarray


class RowsOfWave(NamedTuple):
    """A wave and all its edges; `input_R`: Σ |edges| of each row, biases left out."""

    wave: Wave
    features: list[LayerEdges]
    other: OtherEdges
    input_R: torch.Tensor


class KnownRows(NamedTuple):
    """Rows that were made to choose nodes: of the target, and of the first features, `pilot`."""

    target: GradientRows
    of_target: RowsOfWave
    pilot: SelectedFeatures
    waves: list[RowsOfWave]


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


def waves(sources: Sources, chosen: SelectedFeatures, by_layer: bool = False) -> Iterator[Wave]:
    """Pre-activations of the chosen features as rows, in waves: by layer from the top where what blocks write
    is kept anyway (or when asked for), else rows of all layers together, those of late positions first."""
    frozen = sources.frozen
    # Read once: a card would be waited for at every wave.
    layer_C, position_C = (part.cpu().numpy() for part in (chosen.layer_C, chosen.position_C))
    number_C = np.arange(len(layer_C))
    if by_layer or sources.kept:
        starts = layer_starts(chosen, len(frozen.layers))
        groups = [number_C[first:last] for first, last in reversed(list(pairwise(starts)))]
        most = ROWS
    else:  # rows of block 0 see tokens only
        groups, most = [number_C[layer_C > 0], number_C[layer_C == 0]], ROWS_OF_ALL
    most = min(most, sources.rows or most)
    numbers = WAVE_NUMBERS if frozen.patterns == KEPT else LONG_WAVE_NUMBERS
    for number_G in groups:
        order_G = number_G[position_C[number_G].argsort(kind="stable")]
        while len(order_G):
            one = (int(position_C[order_G[-1]]) + 1) * frozen.embedding_Td.shape[1]
            size = min(max(1, min(most, numbers // one)), len(order_G))
            yield _wave(frozen, chosen, layer_C, np.sort(order_G[-size:]))
            order_G = order_G[:-size]


def _wave(frozen: FrozenPrompt, chosen: SelectedFeatures, layer_C: np.ndarray, here_R: np.ndarray) -> Wave:
    """These rows, which are in the order of the chosen: by layer, then by position."""
    layers, inside = frozen.replacement.layers, not frozen.replacement.parallel
    here_R = here_R[np.argsort(-layer_C[here_R], kind="stable")]  # the highest layer first
    number_R, batches = torch.from_numpy(here_R).to(chosen.layer_C.device), []
    found, first_B = np.unique(-layer_C[here_R], return_index=True)
    for minus, (first, last) in zip(found.tolist(), pairwise([*first_B.tolist(), len(here_R)]), strict=True):
        part, layer = number_R[first:last], -minus
        position_R = chosen.position_C[part]
        gradient_Rd, _ = feature_reads(
            layers[layer], frozen.layers[layer], chosen.feature_C[part], position_R
        )
        batches.append(GradientRows(gradient_Rd, position_R, layer, inside))
    return Wave(number_R, tuple(batches), here_R)


def _all_edges(sources: Sources, wave: Wave) -> RowsOfWave:
    found: list[LayerEdges] = []
    return _with_inputs(wave, found, direct_edges(sources, wave.batches, found.append))


def _with_inputs(wave: Wave, features: list[LayerEdges], other: OtherEdges) -> RowsOfWave:
    total_R = other.error_RLP.abs().sum((1, 2)) + other.token_RP.abs().sum(1)
    for part in features:
        total_R[part.first : part.last] += part.over_features(part.edge.abs())
    return RowsOfWave(wave, features, other, total_R.clamp(min=torch.finfo(total_R.dtype).tiny))


def _pass_on(
    found: RowsOfWave, share_R: torch.Tensor, first: int, last: int, flow: list[torch.Tensor]
) -> None:
    """Add what the features below get of the influence of rows `first` to `last` to `flow`, one [Q, K] per
    layer. `share_R`: influence by input of these rows."""
    for part in found.features:
        here = slice(max(first, part.first), min(last, part.last))
        if here.start >= here.stop:
            continue
        share_r = share_R[here.start - first : here.stop - first]
        own = slice(here.start - part.first, here.stop - part.first)
        if part.row_X is not None and part.slot_row_X is not None:
            in_X = ((part.row_X >= own.start) & (part.row_X < own.stop)).nonzero()[:, 0]
            given_XK = part.edge[in_X].abs() * share_r[part.row_X[in_X] - own.start, None]
            flow[part.layer].index_put_((part.slot_row_X[in_X],), given_XK, accumulate=True)
        else:
            flow[part.layer][: len(part.edge)] += share_r @ part.edge[:, own].abs()


@torch.no_grad()
def all_influences(
    sources: Sources, pilot: SelectedFeatures, target: GradientRows
) -> tuple[tuple[torch.Tensor, ...], KnownRows]:
    """Influence of every active feature on the target through the rows of the target and the pilot: one [N]
    per layer. Exact for the graph in which these rows alone have input. And the rows, if they were kept."""
    frozen, n_layers = sources.frozen, len(sources.frozen.layers)
    flow = [target.gradient_Rd.new_zeros(len(at.position_Q), at.width) for at in sources.padded]
    parts: list[LayerEdges] = []
    other = target_edges(sources, target, parts.append)
    number_1 = pilot.layer_C.new_full((1,), -1)
    of_target = _with_inputs(Wave(number_1, (target,), np.zeros(1, dtype=np.int64)), parts, other)
    _pass_on(of_target, 1.0 / of_target.input_R, 0, 1, flow)
    active = sum(len(layer.position_N) for layer in frozen.layers)
    if active * len(pilot.layer_C) <= KEPT_EDGES and sources.rows is None:
        known = [_all_edges(sources, wave) for wave in waves(sources, pilot)]
        for layer in range(min(target.layer, n_layers) - 1, 0, -1):
            for found in known:
                _pass_layer_on(sources, pilot, found, layer, flow)
    else:
        known = []
        for wave in waves(sources, pilot, by_layer=True):
            if 0 < wave.batches[0].layer < target.layer:
                found = _all_edges(sources, wave)
                _pass_layer_on(sources, pilot, found, wave.batches[0].layer, flow)
    influence = tuple(flow_QK[at.row_N, at.slot_N] for flow_QK, at in zip(flow, sources.padded, strict=True))
    return influence, KnownRows(target, of_target, pilot, known)


def _pass_layer_on(
    sources: Sources, pilot: SelectedFeatures, found: RowsOfWave, layer: int, flow: list[torch.Tensor]
) -> None:
    """`_pass_on` of a wave's rows of one layer, whose influence is known by now."""
    layers = [rows.layer for rows in found.wave.batches]
    if layer not in layers:
        return
    sizes = [len(rows.position_R) for rows in found.wave.batches]
    first = sum(sizes[: layers.index(layer)])
    last = first + sizes[layers.index(layer)]
    at, index_R = sources.padded[layer], pilot.index_C[found.wave.number_R[first:last]]
    share_R = flow[layer][at.row_N[index_R], at.slot_N[index_R]] / found.input_R[first:last]
    _pass_on(found, share_R, first, last, flow)


def by_influence(
    sources: Sources, effects: tuple[torch.Tensor, ...], target: GradientRows, budget: int
) -> SelectedFeatures:
    """The `budget` active features with the most influence on the target. The rows that were made for this
    stay with the sources until the edges are asked for."""
    frozen = sources.frozen
    pilot = largest(frozen, effects, max(LEAST_PILOT, budget // PILOT))
    influence, sources.known = all_influences(sources, pilot, target)
    return largest(frozen, influence, budget)
