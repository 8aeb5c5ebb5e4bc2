"""Features of two transcoder sets matched: by weights, by activation on common cells, by genes.

Every way has two nulls of the same kind: the first sets the threshold (what 1 % of its best matches reach),
the second is reported. Weights: the coordinates of the second set's directions are permuted. Activation: the
second set's tokens are permuted within their class. Genes: its gene names are permuted.
Legend: A and B features of the two sets, d residual width, G genes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from scx_core.atlas.match.common_cells import Common, PairMoments, Side, read_common
from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import rounded_products
from scx_core.runs import Progress, option, provenance, silent
from scx_core.runs.options import check
from scx_core.transcoders import Transcoder
from scx_core.transcoders.check import check_set
from scx_core.validation import draw_rows

WEIGHTS, ACTIVATION, GENES = "weights", "activation", "genes"
WAYS = (WEIGHTS, ACTIVATION, GENES)
MEMORY = 1 << 30  # bytes of sums of feature pairs that are held at a time


@dataclass(frozen=True)
class MatchConfig:
    """On what the matching rests."""

    cells: int = option(200, "Common cells, drawn with the seed; 0 takes all", minimum=0)
    batch: int = option(8, "Cells at a time", minimum=1)
    tokens: int = option(20, "A feature is live when it fires at so many places of these cells", minimum=2)
    seed: int = option(0, "Seed of cells and shuffles", minimum=0)

    def __post_init__(self) -> None:
        check(self)


class Match(NamedTuple):
    """`pairs`: way, layer, feature, other, score, mutual, generalises: one row a live feature of the first.

    `shares`: way, layer (−1: all), features, others (live ones), the shares of `features` that are `found`
    (best match above the threshold), `mutual`, and that `generalises` (both), `score` (median of the best),
    and the same of the null (`…_null`). `skipped`: ways that do not apply, with the reason.
    """

    pairs: pd.DataFrame
    shares: pd.DataFrame
    skipped: dict[str, str]
    provenance: dict[str, Any]


def match_sets(
    first: Side,
    second: Side,
    table: CellTable,
    rows: Sequence[int] | np.ndarray | None = None,
    cfg: MatchConfig | None = None,
    *,
    progress: Progress = silent,
) -> Match:
    """Match the features of `first` to those of `second`, layer by layer, on the same cells.

    `rows`: the cells (default: all of the table; `cfg.cells` draws among them). Weights are compared when
    both sets belong to the same model. Raises ScxError when the numbers of layers differ, or a set does not
    fit its model.
    """
    cfg = cfg or MatchConfig()
    for lm, coders in (first, second):
        check_set(lm, coders)
    first, second = first.together(), second.together()
    layers = [len(side.transcoders.layers) for side in (first, second)]
    if layers[0] != layers[1]:
        problem = f"The first set has {layers[0]} layers, the second {layers[1]}."
        raise ScxError(problem, "Features are matched layer by layer: give sets of as many layers.")
    rows = np.arange(table.n_cells) if rows is None else np.asarray(rows, dtype=np.int64)
    rows = draw_rows(rows, cfg.cells, cfg.seed) if cfg.cells else rows
    if not len(rows):
        raise ScxError("There are no cells to match on.", "Give at least one, better a hundred.")
    skipped = {}
    if first.lm.fingerprint != second.lm.fingerprint:
        skipped[WEIGHTS] = "the sets belong to different models, whose directions do not compare"
    found: list[tuple[str, int, _Way]] = []
    for layer, common in _by_layer(first, second, table, rows, cfg, progress):
        live = common.fired_A >= cfg.tokens, common.fired_B >= cfg.tokens
        rng = np.random.default_rng([cfg.seed, layer])
        pair = first.transcoders.layers[layer], second.transcoders.layers[layer]
        for way in WAYS:
            if way not in skipped:
                alike = _similarities(way, pair, common, rng)
                real, choosing, null = (best_matches(alike_AB, *live) for alike_AB in alike)
                found.append((way, layer, _Way(real, null, threshold(choosing), *live)))
    pairs = pd.concat([_pairs(*one) for one in found], ignore_index=True)
    record = provenance(
        config=cfg,
        data=table,
        model=first.lm,
        transcoders=first.transcoders,
        seed=cfg.seed,
        other_model={"name": second.lm.name, "fingerprint": second.lm.fingerprint},
        other_transcoders={"name": second.transcoders.name, "fingerprint": second.transcoders.fingerprint},
    )
    return Match(pairs, _shares(found), skipped, record)


class _Way(NamedTuple):
    """Matches of one layer in one way, those of the reported null, the threshold of the other, live ones."""

    real: Matches
    null: Matches
    limit: float
    live_A: np.ndarray
    live_B: np.ndarray


def _by_layer(
    first: Side, second: Side, table: CellTable, rows: np.ndarray, cfg: MatchConfig, progress: Progress
) -> Iterator[tuple[int, Common]]:
    """The layers' sums; as many layers in one pass as fit into memory."""
    a, b = first.transcoders.n_features, second.transcoders.n_features
    size = 4 * (3 * a * b + (a + b) * table.n_genes)
    at_once = max(1, MEMORY // size)
    layers = range(len(first.transcoders.layers))
    for start in range(0, len(layers), at_once):
        some = layers[start : start + at_once]
        with rounded_products(first.lm.device):
            read = read_common(
                first, second, table, rows, some, batch=cfg.batch, seed=cfg.seed, progress=progress
            )
        yield from zip(some, read, strict=True)


def _similarities(
    way: str, coders: tuple[Transcoder, Transcoder], common: Common, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The similarities [A, B] of one way: real, and of the two nulls, one at a time."""
    if way == WEIGHTS:
        yield weights_alike(*coders)
        for _ in range(2):
            yield weights_alike(*coders, rng.permutation(coders[1].width))
    elif way == ACTIVATION:
        yield from map(correlation, (common.real, *common.nulls))
    else:
        seen = common.tokens_G > 0
        a_AG, b_BG = (
            gene_preference(mass[:, seen], common.tokens_G[seen])
            for mass in (common.genes_AG, common.genes_BG)
        )
        yield cosine(a_AG, b_BG)
        for _ in range(2):
            yield cosine(a_AG, b_BG[:, rng.permutation(b_BG.shape[1])])


def _pairs(way: str, layer: int, found: _Way) -> pd.DataFrame:
    at = np.flatnonzero(found.real.other_A >= 0)
    columns = {"way": way, "layer": layer, "feature": at, "other": found.real.other_A[at]}
    columns |= {"score": found.real.score_A[at], "mutual": found.real.mutual_A[at]}
    return pd.DataFrame(columns | {"generalises": generalises(found.real, found.limit)[at]})


def _shares(found: Sequence[tuple[str, int, _Way]]) -> pd.DataFrame:
    rows = []
    for way in WAYS:
        of_way = [(layer, one) for name, layer, one in found if name == way]
        if of_way:
            rows.append(_row(way, -1, [one for _, one in of_way]))
            rows += [_row(way, layer, [one]) for layer, one in of_way]
    return pd.DataFrame(rows)


def _row(way: str, layer: int, parts: Sequence[_Way]) -> dict[str, Any]:
    """Shares of the live features of the first set, over some layers."""
    live = sum(int(one.live_A.sum()) for one in parts)
    row: dict[str, Any] = {"way": way, "layer": layer, "features": live}
    row["others"] = sum(int(one.live_B.sum()) for one in parts)
    for ending, sides in (("", [one.real for one in parts]), ("_null", [one.null for one in parts])):
        passed = [generalises(side, one.limit) for side, one in zip(sides, parts, strict=True)]
        scores = np.concatenate([side.score_A[side.other_A >= 0] for side in sides])
        above = [side.score_A[side.other_A >= 0] > one.limit for side, one in zip(sides, parts, strict=True)]
        row[f"found{ending}"] = sum(int(one.sum()) for one in above) / max(live, 1)
        row[f"mutual{ending}"] = sum(int(side.mutual_A.sum()) for side in sides) / max(live, 1)
        row[f"generalises{ending}"] = sum(int(one.sum()) for one in passed) / max(live, 1)
        row[f"score{ending}"] = float(np.median(scores)) if len(scores) else 0.0
    return row


NULL_RATE = 0.01  # share of the null's best matches that reach the threshold


class Matches(NamedTuple):
    """Of every feature of the first set: its best match (−1 where there is none), the similarity, and
    whether it is the best match of its best match, [A] each."""

    other_A: np.ndarray
    score_A: np.ndarray
    mutual_A: np.ndarray


def correlation(moments: PairMoments) -> np.ndarray:
    """Pearson's correlation of activations [A, B]; 0 for a feature that never varies."""
    n = max(moments.n, 1)
    spread_A = np.sqrt(np.maximum(moments.square_A - moments.sum_A**2 / n, 0))
    spread_B = np.sqrt(np.maximum(moments.square_B - moments.sum_B**2 / n, 0))
    covariance_AB = moments.cross_AB - np.outer(moments.sum_A / n, moments.sum_B)
    return covariance_AB * np.outer(_inverse(spread_A), _inverse(spread_B))


def cosine(a_AX: np.ndarray, b_BX: np.ndarray) -> np.ndarray:
    """Cosine of all rows with all rows [A, B]; 0 for a row of zeros."""
    a_AX = a_AX * _inverse(np.linalg.norm(a_AX, axis=1))[:, None]
    b_BX = b_BX * _inverse(np.linalg.norm(b_BX, axis=1))[:, None]
    return a_AX @ b_BX.T


def weights_alike(a: Transcoder, b: Transcoder, order_d: np.ndarray | None = None) -> np.ndarray:
    """Mean cosine of encoder directions and of decoder vectors [A, B]. `order_d` permutes the coordinates of
    the second set: its features keep their lengths and what they have in common, but no direction."""
    order = torch.arange(b.width) if order_d is None else torch.as_tensor(order_d)
    encoder = cosine(_array(a.W_enc_Fd), _array(b.W_enc_Fd.cpu()[:, order]))
    decoder = cosine(_array(a.W_dec_Fd), _array(b.W_dec_Fd.cpu()[:, order]))
    return (encoder + decoder) / 2


def gene_preference(mass_FG: np.ndarray, tokens_G: np.ndarray) -> np.ndarray:
    """How much more of a feature's mass on genes each gene has than its share of the gene tokens [F, G]."""
    share_FG = mass_FG * _inverse(mass_FG.sum(1))[:, None]
    expected_G = tokens_G / max(tokens_G.sum(), 1)
    return (share_FG - expected_G) * (mass_FG.sum(1) > 0)[:, None]


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.where(values > 1e-12, 1 / np.where(values > 1e-12, values, 1), 0.0)


def _array(weights: torch.Tensor) -> np.ndarray:
    found: np.ndarray = weights.detach().float().cpu().numpy()
    return found


def best_matches(alike_AB: np.ndarray, live_A: np.ndarray, live_B: np.ndarray) -> Matches:
    """Best matches among the live features of both sets."""
    other_A, score_A = np.full(len(live_A), -1), np.zeros(len(live_A))
    mutual_A = np.zeros(len(live_A), dtype=bool)
    rows, columns = np.flatnonzero(live_A), np.flatnonzero(live_B)
    if not len(rows) or not len(columns):
        return Matches(other_A, score_A, mutual_A)
    part = alike_AB[np.ix_(rows, columns)]
    best = part.argmax(1)
    other_A[rows] = columns[best]
    score_A[rows] = part[np.arange(len(rows)), best]
    mutual_A[rows] = part.argmax(0)[best] == np.arange(len(rows))
    return Matches(other_A, score_A, mutual_A)


def threshold(null: Matches) -> float:
    """What only 1 % of the best matches by chance reach, on average of a new draw: Weibull's quantile (the
    usual one of 900 matches is exceeded by 1.1 %)."""
    scores = null.score_A[null.other_A >= 0]
    return float(np.quantile(scores, 1 - NULL_RATE, method="weibull")) if len(scores) else 1.0


def generalises(matches: Matches, limit: float) -> np.ndarray:
    """Whether a feature has a mutual best match above the threshold, [A]."""
    return matches.mutual_A & (matches.score_A > limit)
