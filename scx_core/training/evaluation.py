"""How well transcoders stand in for the MLPs: losses with all of them replaced, and sums layer by layer.

The few numbers that training logs and writes beside a set; the validation room has the whole table.
Legend: B cells, T positions, N predicted tokens, d width, F features.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch

from scx_core.language import Language, MlpIO, captured_mlps, mlp_io, positions, replaced_mlps
from scx_core.language.hooks import Stand_in
from scx_core.language.numerics.operations import operations
from scx_core.metrics import ce_recovered, dead, fvu, l0, squares_from_sums
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.objective.losses import token_losses
from scx_core.training.ops.sparse import times_of
from scx_core.training.plan import training_batch
from scx_core.training.processes.distributed import ALONE, Team
from scx_core.training.tokens import Cells, TokenTexts
from scx_core.transcoders.module import TranscoderSet

CELLS_AT_ONCE = 8
# Operations that the figures beside a finished set, and fitting thresholds, may take on a processor: half a
# minute each.
FINAL_WORK = CALIBRATION_WORK = 4e12


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


def affordable(lm: Language, train: TrainConfig, work: float, a_cell: float) -> int:
    """Cells that take no more than `work` operations on a processor, at `a_cell` of them each, and no fewer
    than are measured while training; on a card any number."""
    if lm.device.type == "cuda":
        return sys.maxsize
    return max(train.evaluate_cells, int(work / max(1.0, a_cell)))


def measuring(lm: Language, cfg: TranscoderConfig, tokens: float) -> float:
    """Operations a token that measuring takes in texts of so many: the model as it is, with transcoders and
    with zeros, each to the vocabulary, and the transcoders on the model's own activations."""
    one, n = operations(lm, tokens), lm.facts.n_layers
    coder = 2.0 * cfg.expansion * lm.facts.width**2
    return one.blocks(n) + n * 2 * (one.attention + coder) + 3 * one.table


def calibrating(lm: Language, cfg: TranscoderConfig, tokens: float) -> float:
    """Operations a token that fitting the thresholds of a set takes: a pass, and every encoder."""
    n = lm.facts.n_layers
    return operations(lm, tokens).blocks(n) + n * 2.0 * cfg.expansion * lm.facts.width**2


class LayerTotals:
    """Sums over tokens from which `LayerSums` come, of every layer of a set."""

    def __init__(self, coders: TranscoderSet) -> None:
        n = len(coders.layers)
        self.error, self.square = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
        self.total = torch.zeros(n, coders.width, dtype=torch.float64)
        self.fires = torch.zeros(n, coders.n_features, dtype=torch.int64)
        self.count = torch.zeros((), dtype=torch.int64)

    def add(self, rows: Sequence[Sequence[torch.Tensor]], tokens: int) -> None:
        """What `layer_rows` found on so many tokens."""
        for i, (error_here, square_here, sum_d, fires_F) in enumerate(rows):
            self.error[i] += error_here
            self.square[i] += square_here
            self.total[i] += sum_d
            self.fires[i] += fires_F
        self.count += tokens

    def finished(self, team: Team = ALONE) -> list[LayerSums]:
        """Of everyone's tokens, layer by layer."""
        for sums in (self.error, self.square, self.total, self.fires, self.count):
            team.total(sums)
        unexplained = fvu(self.error, squares_from_sums(self.count, self.total, self.square)).tolist()
        return [
            LayerSums(share, l0(fires_F, float(self.count)), float(dead(fires_F).double().mean()))
            for share, fires_F in zip(unexplained, self.fires, strict=True)
        ]


def layer_rows(coders: TranscoderSet, io: MlpIO, real_BT: torch.Tensor) -> list[list[torch.Tensor]]:
    """Of each layer ‖y − ŷ‖², ‖y‖², Σ y [d] and how often each feature fires [F], of the real tokens of a
    batch, from what the model's own MLPs read and wrote there."""
    inputs, outputs = ([side[real_BT].float() for side in sides] for sides in (io.inputs, io.outputs))
    rows = []
    for (pairs, guess_Td), y_Td in zip(coders.coded_by_pairs(inputs, outputs), outputs, strict=True):
        fires_F = times_of(pairs.feature_N, coders.n_features)
        squares = [(y_Td - guess_Td).double().square().sum(), y_Td.double().square().sum()]
        rows.append([t.cpu() for t in (*squares, y_Td.double().sum(0), fires_F)])
    return rows


@torch.no_grad()
def spliced(
    lm: Language,
    coders: TranscoderSet,
    texts: TokenTexts,
    cells: Cells,
    between: Callable[[], None] = nothing,
    team: Team = ALONE,
    layers: LayerTotals | None = None,
) -> Spliced:
    """Losses of the model as it is, with transcoders and with zeros for MLPs; KL(p_orig ‖ p_transcoder).

    `between` is called after each batch; it may raise to end this. A `team` shares out the cells. `layers`
    takes in what each layer does on the activations of the model as it is, from the same pass.
    """
    total, micro = torch.zeros(5, dtype=torch.float64), training_batch()
    stand_ins = coders.stand_ins()
    zeros = dict.fromkeys(stand_ins, torch.zeros_like)

    def measured(mine: Cells, part: slice) -> tuple[torch.Tensor, list[list[torch.Tensor]], int]:
        batch = texts.batch(lm, mine[part])
        # With padding on the left, a real token always has a real next one.
        keep_BT, rows = batch.mask_BT[:, :-1].bool(), []
        next_N = batch.ids_BT[:, 1:][keep_BT]
        with captured_mlps(lm) if layers is not None else nullcontext() as io:
            orig_Nd = hidden_states(lm, *batch, keep_BT, {})
        if io is not None:
            rows = layer_rows(coders, io, batch.mask_BT.bool())
        others = [hidden_states(lm, *batch, keep_BT, mlps) for mlps in (stand_ins, zeros)]
        found = token_losses(lm, [orig_Nd, *others], next_N, orig_Nd)
        (ce, _), (ce_coded, kl), (ce_zero, _) = [[t.sum().item() for t in pair] for pair in found]
        sums_5 = torch.tensor([ce, ce_coded, ce_zero, kl, len(next_N)], dtype=torch.float64)
        return sums_5, rows, int(batch.mask_BT.sum())

    for mine in team.rounds(list(cells), CELLS_AT_ONCE):
        for sums_5, rows, tokens in micro.pieces(partial(measured, mine), len(mine), CELLS_AT_ONCE):
            total += sums_5
            if layers is not None:
                layers.add(rows, tokens)
        between()
    *means, _ = (team.total(total) / total[-1]).tolist()
    return Spliced(*means)


def hidden_states(
    lm: Language,
    ids_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    keep_BT: torch.Tensor,
    stand_ins: Mapping[int, Stand_in],
) -> torch.Tensor:
    """Hidden states behind the last norm at the positions that have a next token, [N, d]."""
    with replaced_mlps(lm, stand_ins):
        out_BTd = lm.model.base_model(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions(mask_BT), use_cache=False
        ).last_hidden_state
    return out_BTd[:, :-1][keep_BT]


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
    totals, micro = LayerTotals(coders), training_batch()

    def measured(mine: Cells, part: slice) -> tuple[list[list[torch.Tensor]], int]:
        ids_BT, mask_BT = texts.batch(lm, mine[part])
        return layer_rows(coders, mlp_io(lm, ids_BT, mask_BT), mask_BT.bool()), int(mask_BT.sum())

    for mine in team.rounds(list(cells), CELLS_AT_ONCE):
        for rows, tokens in micro.pieces(partial(measured, mine), len(mine), CELLS_AT_ONCE):
            totals.add(rows, tokens)
        between()
    return totals.finished(team)


def held_out_metrics(
    lm: Language,
    coders: TranscoderSet,
    texts: TokenTexts,
    between: Callable[[], None] = nothing,
    team: Team = ALONE,
) -> dict[str, Any]:
    """The figures that are written beside a set: losses with every MLP replaced, and sums over each layer.
    `between` and `team` as in `spliced`."""
    layers = LayerTotals(coders)
    all_at_once = spliced(lm, coders, texts, range(texts.n_cells), between, team, layers)
    each = layers.finished(team)
    return {
        "cells": texts.n_cells,
        "tokens": len(texts.ids),
        **all_at_once._asdict(),
        "ce_recovered": all_at_once.ce_recovered,
        "per_layer": [layer._asdict() for layer in each],
    }
