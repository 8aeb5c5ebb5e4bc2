"""Calls about features where there is nothing to find: conditions, batches, the verdict "cell type", matches.

Legend: C cells, F features of all layers, X columns, K types, A and B features of two sets, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from scx_core.atlas.collect.token_slots import permuted_within
from scx_core.atlas.judge.protocol import NULL_RATE, VerdictThresholds
from scx_core.atlas.judge.unit_figures import share_of_rates
from scx_core.atlas.match.common_cells import PairMoments, Side, activations, classes_and_genes, mlp_streams
from scx_core.atlas.match.matching import (
    best_matches,
    correlation,
    cosine,
    gene_preference,
    threshold,
    weights_alike,
)
from scx_core.circuits import Tracer
from scx_core.circuits.consensus import ConsensusConfig
from scx_core.evidence.biology.conditions import Compared, ConditionConfig, read_values
from scx_core.evidence.studies.told_features import BATCH, cell_means, p_of_grouping, permuted_within_types
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.progress import Progress, silent
from scx_core.transcoders import TranscoderSet
from scx_core.validation import draw_rows

from .rates import NULLS, NullConfig, Rate, difference_call, rate_of

CELLS_A_SIDE = 2  # times `NullConfig.cells`: cells of one type that are dealt to two conditions
BATCH_CELLS, TYPE_CELLS, MATCH_CELLS = 10, 20, 2  # times `NullConfig.cells`, of all types
PERMUTATIONS = 99  # of a test of one run
LIVE, FIRED = 0.05, 20  # share of cells in which a feature of a batch is live; tokens of one that is judged


def feature_rates(
    tracer: Tracer,
    label: str | None = None,
    thresholds: Mapping[str, Any] | None = None,
    *,
    cfg: NullConfig = NULLS,
    progress: Progress = silent,
) -> tuple[Rate, ...]:
    """Conditions within a type (default: the most frequent), features of a batch, and the verdict "cell type"
    (`thresholds`: an atlas' own), under labels dealt anew."""
    label = label or str(tracer.table.cells_per_type().index[0])
    progress(0, 3, "conditions, labels dealt anew")
    rates = _conditions(tracer, label, cfg)
    progress(1, 3, "features of a batch, labels dealt anew")
    labelled = np.flatnonzero(tracer.table.answers != "")
    rates.append(_batches(tracer, np.sort(draw_rows(labelled, BATCH_CELLS * cfg.cells, cfg.seed)), cfg))
    progress(2, 3, "cell type of a feature, labels dealt anew")
    rows = np.sort(draw_rows(labelled, TYPE_CELLS * cfg.cells, cfg.seed))
    limits = VerdictThresholds(**(thresholds or {}))
    sum_CF, fired_CF, tokens_C = _cell_sums(tracer, rows)
    call = type_call(sum_CF, fired_CF, tokens_C, tracer.table.labels[rows], limits)
    rates.append(rate_of("verdict: cell type", call, cfg, family=False, nominal=NULL_RATE))
    return tuple(rates)


def _conditions(tracer: Tracer, label: str, cfg: NullConfig) -> list[Rate]:
    """Cells of one type dealt to two conditions, in every kind of value that conditions are compared by."""
    rows = tracer.draw(label, ConsensusConfig(cells=2 * CELLS_A_SIDE * cfg.cells, seed=cfg.seed))
    cells = Compared(rows, len(rows) // 2, None)
    values = read_values(tracer, cells, tracer.answer_for(label), ConditionConfig(seed=cfg.seed))
    live_F = (values.feature_CF != 0).mean(0) > ConditionConfig().least / 2
    donor_C = np.random.default_rng([cfg.seed, 6]).permutation(np.arange(len(rows)) % cfg.donors)
    kinds = {
        "features": values.feature_CF[:, live_F].astype(np.float64),
        "attribution": values.effect_CG,
        "sentence": values.height_CG,
        "expression": values.expression_CG.astype(np.float64),
    }
    rates = []
    for kind, value_CX in kinds.items():
        call = difference_call(value_CX, kind="", donor_C=None)
        rates.append(rate_of(f"conditions, {kind}", call, cfg))
    call = difference_call(kinds["features"], kind="", donor_C=donor_C)
    return [*rates, rate_of("conditions over donors, features", call, cfg)]


def _batches(tracer: Tracer, rows: np.ndarray, cfg: NullConfig) -> Rate:
    """Cells of all types dealt to batches, within types."""
    value_CF, type_C = cell_means(tracer, rows), tracer.table.labels[rows]
    value_CX = value_CF[:, (value_CF != 0).mean(0) > LIVE].astype(np.float64)
    batch_C = np.arange(len(rows)) % cfg.donors

    def run(rng: np.random.Generator) -> np.ndarray:
        dealt_C = permuted_within_types(rng.permutation(batch_C), type_C, rng)
        return p_of_grouping(value_CX, dealt_C, type_C, PERMUTATIONS, rng)[1]

    return rate_of("features of a batch", run, cfg)


@torch.no_grad()
def _cell_sums(tracer: Tracer, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of every feature's activations in each cell [C, F], at how many tokens it fires there [C, F], and
    the cell's tokens [C]; the first token of a cell left out."""
    side, layers = Side(tracer.lm, tracer.transcoders), range(len(tracer.transcoders.layers))

    def attempt(some: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cells = tracer.encode(rows[some])
        io = mlp_streams(side.lm, cells)
        z_NF = sp.hstack([activations(side, io, layer, cells) for layer in layers], format="csr")
        length = [len(cell.ids) - 1 for cell in cells]
        of_CN = sp.csr_matrix(
            (np.ones(sum(length)), (np.repeat(np.arange(len(cells)), length), np.arange(sum(length))))
        )
        return (of_CN @ z_NF).toarray(), (of_CN @ z_NF.astype(bool)).toarray(), np.array(length)

    sums, fired, tokens = zip(*MicroBatch().pieces(attempt, len(rows), BATCH), strict=True)
    return np.concatenate(sums), np.concatenate(fired), np.concatenate(tokens)


def type_call(
    sum_CF: np.ndarray,
    fired_CF: np.ndarray,
    tokens_C: np.ndarray,
    label_C: np.ndarray,
    limits: VerdictThresholds,
) -> Callable[[np.random.Generator], np.ndarray]:
    """Whether each judged feature meets the verdict "cell type" (0) or not (1) with the labels dealt anew."""
    fired_F = fired_CF.sum(0)
    judged_F = (fired_F >= max(FIRED, limits.tokens)) & (fired_F / tokens_C.sum() > limits.live)
    mass_CX = sum_CF[:, judged_F]
    names, number_C = np.unique(label_C.astype(str), return_inverse=True)

    def run(rng: np.random.Generator) -> np.ndarray:
        of_KC = (rng.permutation(number_C)[None] == np.arange(len(names))[:, None]).astype(float)
        share_X = share_of_rates(of_KC @ mass_CX, of_KC @ tokens_C)[1]
        return (share_X < limits.cell_type).astype(float)

    return run


def match_rates(
    tracer: Tracer, second: TranscoderSet, *, cfg: NullConfig = NULLS, progress: Progress = silent
) -> tuple[Rate, ...]:
    """Features of the middle layer of the tracer's set matched to those of another set of the same model,
    where nothing can match: each run's threshold is of one draw of the null, what it counts of another."""
    layer = len(tracer.transcoders.layers) // 2
    pair = tracer.transcoders.layers[layer], second.layers[layer]
    sides = Side(tracer.lm, tracer.transcoders), Side(tracer.lm, second)
    labelled = np.flatnonzero(tracer.table.answers != "")
    rows = np.sort(draw_rows(labelled, MATCH_CELLS * cfg.cells, cfg.seed))
    progress(0, 3, "activations of both sets")
    z_A, z_B, kind_N, gene_GN = _both(tracer, sides, rows, layer)
    live = tuple(np.bincount(z.indices, minlength=z.shape[1]) >= FIRED for z in (z_A, z_B))
    tokens_G = np.asarray(gene_GN.sum(1)).ravel()
    seen = tokens_G > 0
    a_AG, b_BG = (gene_preference((gene_GN @ z).toarray().T[:, seen], tokens_G[seen]) for z in (z_A, z_B))

    def weights(rng: np.random.Generator) -> np.ndarray:
        return weights_alike(*pair, rng.permutation(pair[1].width))

    def activation(rng: np.random.Generator) -> np.ndarray:
        return _correlated(z_A, z_B[permuted_within(kind_N, rng)])

    def genes(rng: np.random.Generator) -> np.ndarray:
        return cosine(a_AG, b_BG[:, rng.permutation(b_BG.shape[1])])

    rates = []
    for number, (way, draw) in enumerate(
        {"weights": weights, "activation": activation, "genes": genes}.items()
    ):
        progress(number, 3, f"matches by {way}, dealt anew")
        rates.append(
            rate_of(f"match by {way}", _second_draw(draw, *live), cfg, family=False, nominal=NULL_RATE)
        )
    return tuple(rates)


def _second_draw(
    draw: Callable[[np.random.Generator], np.ndarray], live_A: np.ndarray, live_B: np.ndarray
) -> Callable[[np.random.Generator], np.ndarray]:
    """Whether the best match of each feature in a draw exceeds (0) the threshold of the draw before, or not
    (1); the first run's threshold is of a draw of its own."""
    before: list[float] = []

    def run(rng: np.random.Generator) -> np.ndarray:
        if not before:
            before.append(threshold(best_matches(draw(rng), live_A, live_B)))
        found = best_matches(draw(rng), live_A, live_B)
        passed = found.score_A[found.other_A >= 0] > before[0]
        before[0] = threshold(found)
        return (~passed).astype(float)

    return run


@torch.no_grad()
def _both(
    tracer: Tracer, sides: tuple[Side, Side], rows: np.ndarray, layer: int
) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray, sp.csr_matrix]:
    """Activations of both sets at the same tokens [N, A], [N, B], the class of each token [N], of each gene
    its tokens [G, N]."""
    number = {str(gene): g for g, gene in enumerate(tracer.table.symbols)}

    def attempt(some: slice) -> tuple[Any, ...]:
        cells = tracer.encode(rows[some])
        io = mlp_streams(tracer.lm, cells)
        return (
            *(activations(side, io, layer, cells) for side in sides),
            *classes_and_genes(cells, number, True),
        )

    parts = list(zip(*MicroBatch().pieces(attempt, len(rows), BATCH), strict=True))
    z_A, z_B = (sp.vstack(part, format="csr") for part in parts[:2])
    return z_A, z_B, np.concatenate(parts[2]), sp.hstack(parts[3], format="csr")


def _correlated(a_NA: sp.csr_matrix, b_NB: sp.csr_matrix) -> np.ndarray:
    """Pearson's correlation of all columns with all columns [A, B]."""
    sum_A, sum_B = (np.asarray(z.sum(0)).ravel() for z in (a_NA, b_NB))
    square_A, square_B = (np.asarray(z.multiply(z).sum(0)).ravel() for z in (a_NA, b_NB))
    cross_AB = (a_NA.T @ b_NB).toarray()
    return correlation(PairMoments(cross_AB, sum_A, sum_B, square_A, square_B, a_NA.shape[0]))
