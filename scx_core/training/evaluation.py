"""How well transcoders stand in for the MLPs: losses with all of them replaced, and sums layer by layer.

The few numbers that training logs and writes beside a set; the validation room has the whole table.
Legend: B cells, T positions, V vocabulary, L layers, d width, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from scx_core.language import Language, forward, mlp_io, replaced_mlps
from scx_core.language.hooks import Stand_in
from scx_core.metrics import (
    active,
    ce_recovered,
    cross_entropy,
    dead,
    fvu,
    kl_divergence,
    l0,
    squares_from_sums,
)
from scx_core.training.distributed import ALONE, Team
from scx_core.training.plan import MicroBatch
from scx_core.training.tokens import Cells, PaddedBatch, TokenTexts
from scx_core.transcoders.module import TranscoderSet

CELLS_AT_ONCE = 8


def nothing() -> None:
    """What is called between batches where nobody asks for more."""


class Spliced(NamedTuple):
    """Mean losses per token in nats, every MLP replaced at once (method §3)."""

    ce_orig: float
    ce_transcoder: float
    ce_zero: float
    kl: float

    @property
    def ce_recovered(self) -> float:
        """(CE_zero − CE_transcoder) / (CE_zero − CE_orig), never clipped."""
        return float(ce_recovered(self.ce_zero, self.ce_transcoder, self.ce_orig))


class LayerSums(NamedTuple):
    """Over all tokens measured: FVU (ratio of sums), mean active features a token, share never active."""

    fvu: float
    l0: float
    dead: float


def _log_probs(
    lm: Language, batch: PaddedBatch, keep_BT: torch.Tensor, stand_ins: Mapping[int, Stand_in]
) -> torch.Tensor:
    """Log-probabilities at the positions that have a next token, [N, V] float32."""
    with replaced_mlps(lm, stand_ins):
        return forward(lm, *batch)[:, :-1][keep_BT].float().log_softmax(-1)


@torch.no_grad()
def spliced(
    lm: Language,
    coders: TranscoderSet,
    texts: TokenTexts,
    cells: Cells,
    between: Callable[[], None] = nothing,
    team: Team = ALONE,
) -> Spliced:
    """Losses of the model as it is, with transcoders and with zeros for MLPs; KL(p_orig ‖ p_transcoder).

    `between` is called after each batch; it may raise to end this. A `team` shares out the cells.
    """
    total, micro = torch.zeros(5, dtype=torch.float64), MicroBatch()
    stand_ins = coders.stand_ins()
    zeros = dict.fromkeys(stand_ins, torch.zeros_like)

    def measured(mine: Cells, part: slice) -> torch.Tensor:
        batch = texts.batch(lm, mine[part])
        # With padding on the left, a real token always has a real next one.
        keep_BT = batch.mask_BT[:, :-1].bool()
        next_N = batch.ids_BT[:, 1:][keep_BT]
        orig_NV = _log_probs(lm, batch, keep_BT, {})
        sums = [cross_entropy(orig_NV, next_N).sum()]
        coded_NV = _log_probs(lm, batch, keep_BT, stand_ins)
        sums.append(cross_entropy(coded_NV, next_N).sum())
        kl = kl_divergence(orig_NV, coded_NV).sum()
        del orig_NV, coded_NV
        sums.append(cross_entropy(_log_probs(lm, batch, keep_BT, zeros), next_N).sum())
        return torch.tensor([*torch.stack([*sums, kl]).tolist(), len(next_N)], dtype=torch.float64)

    for mine in team.rounds(list(cells), CELLS_AT_ONCE):
        for sums_5 in micro.pieces(partial(measured, mine), len(mine), CELLS_AT_ONCE):
            total += sums_5
        between()
    *means, _ = (team.total(total) / total[-1]).tolist()
    return Spliced(*means)


@torch.no_grad()
def layer_sums(
    lm: Language,
    coders: TranscoderSet,
    texts: TokenTexts,
    cells: Cells,
    between: Callable[[], None] = nothing,
    team: Team = ALONE,
) -> list[LayerSums]:
    """FVU, L0 and dead share of every layer, on the original model's own MLP inputs and outputs. `between`
    and `team` as in `spliced`."""
    n, micro = len(coders.layers), MicroBatch()
    error, square = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
    total = torch.zeros(n, coders.width, dtype=torch.float64)
    fires = torch.zeros(n, coders.n_features, dtype=torch.int64)
    count = torch.zeros((), dtype=torch.int64)

    def measured(mine: Cells, part: slice) -> tuple[list[list[torch.Tensor]], int]:
        ids_BT, mask_BT = texts.batch(lm, mine[part])
        io, real = mlp_io(lm, ids_BT, mask_BT), mask_BT.bool()
        inputs, outputs = ([side[real].float() for side in sides] for sides in (io.inputs, io.outputs))
        rows = []
        for (z_TF, guess_Td), y_Td in zip(coders.coded(inputs, outputs), outputs, strict=True):
            squares = [(y_Td - guess_Td).double().square().sum(), y_Td.double().square().sum()]
            rows.append([t.cpu() for t in (*squares, y_Td.double().sum(0), active(z_TF).sum(0))])
        return rows, int(real.sum())

    for mine in team.rounds(list(cells), CELLS_AT_ONCE):
        for rows, tokens in micro.pieces(partial(measured, mine), len(mine), CELLS_AT_ONCE):
            for i, (error_here, square_here, sum_d, fires_F) in enumerate(rows):
                error[i] += error_here
                square[i] += square_here
                total[i] += sum_d
                fires[i] += fires_F
            count += tokens
        between()
    for sums in (error, square, total, fires, count):
        team.total(sums)
    unexplained = fvu(error, squares_from_sums(count, total, square)).tolist()
    return [
        LayerSums(share, l0(fires_F, float(count)), float(dead(fires_F).double().mean()))
        for share, fires_F in zip(unexplained, fires, strict=True)
    ]


def held_out_metrics(
    lm: Language,
    coders: TranscoderSet,
    texts: TokenTexts,
    between: Callable[[], None] = nothing,
    team: Team = ALONE,
) -> dict[str, Any]:
    """The figures that are written beside a set: losses with every MLP replaced, and sums over each layer.
    `between` and `team` as in `spliced`."""
    cells = range(texts.n_cells)
    all_at_once = spliced(lm, coders, texts, cells, between, team)
    each = layer_sums(lm, coders, texts, cells, between, team)
    return {
        "cells": texts.n_cells,
        "tokens": len(texts.ids),
        **all_at_once._asdict(),
        "ce_recovered": all_at_once.ce_recovered,
        "per_layer": [layer._asdict() for layer in each],
    }
