"""Which features tell the study, the donor or the condition of a cell, and does the answer need them?

Within one cell type, the share of a feature's variance (mean activation over a cell's tokens) that lies
between the groups, η², averaged over types by their cells. Groups are permuted within types for p; q is over
all live features (Benjamini-Hochberg). η² between types stands beside it, and that of the genes, which no
model made. The strongest are then held at their mean over the first study in the replaced model (every MLP by
its transcoder), and answers are counted; beside them random live features of the same layers and about the
same mean activation.
Legend: C cells, F features of all layers, G genes, K groups, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from scx_core.atlas.match.common_cells import Side, activations, mlp_streams
from scx_core.circuits import Tracer
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.language import answer_form, predicted, replaced_mlps, score_labels
from scx_core.runs.micro_batch import MicroBatch
from scx_core.statistics.hypothesis_tests import q_values
from scx_core.statistics.intervals import wilson

BATCH = 8
CERTAIN, STRONG = 0.05, 0.25
AT_ONCE = 64  # permutations in one product
ROUNDING = 1e-9  # of η²: the same grouping summed in another order is no larger one


class ToldBy(NamedTuple):
    """What a grouping (study, donor, condition) tells of features. `tested`: live features; `called`: q below
    0.05; `strong`: of those, η² of 0.25 or more; `median`, `top`: η² over features (median, 95% quantile),
    `null_top` the same quantile after one permutation, `genes_top` that of the genes; `features`: the
    strongest, as (layer, number, η² of the grouping, η² of the types, q)."""

    grouping: str
    n: int
    groups: tuple[str, ...]
    tested: int
    called: int
    strong: int
    median: float
    top: float
    null_top: float
    genes_top: float
    features: tuple[tuple[int, int, float, float, float], ...]


class Without(NamedTuple):
    """Answers of the replaced model on one study: as it is, with the told features held at the first study's
    mean, and with matched random ones held (`random`: one a draw)."""

    study: str
    n: int
    right: int
    without: int
    random: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers with Wilson's intervals."""
        out: dict[str, Any] = {"study": self.study, "n": self.n, "random": [k / self.n for k in self.random]}
        for name, k in (("right", self.right), ("without", self.without)):
            out[name] = {"share": k / self.n, "n": self.n, **wilson(k, self.n)._asdict()}
        return out


@torch.no_grad()
def cell_means(tracer: Tracer, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mean activation of every feature over the tokens of each cell (position 0 left out), float32 [C, F]."""
    side, rows = Side(tracer.lm, tracer.transcoders), np.asarray(rows)

    def attempt(some: slice) -> np.ndarray:
        cells = tracer.encode(rows[some])
        io = mlp_streams(side.lm, cells)
        layers = range(len(side.transcoders.layers))
        z_NF = sp.hstack([activations(side, io, layer, cells) for layer in layers], format="csr")
        ends = np.cumsum([0, *(len(cell.ids) - 1 for cell in cells)])
        return np.concatenate([np.asarray(z_NF[a:b].mean(axis=0)) for a, b in pairwise(ends)])

    return np.concatenate(list(MicroBatch().pieces(attempt, len(rows), BATCH))).astype(np.float32)


def between(value_CX: np.ndarray, group_C: np.ndarray, type_C: np.ndarray) -> np.ndarray:
    """η² of a grouping within types, averaged over types by their cells, [X]; 0 where nothing varies. A type
    that has one group only is left out."""
    share_X, weight = np.zeros(value_CX.shape[1]), 0
    for one in np.unique(type_C):
        mine = type_C == one
        if len(np.unique(group_C[mine])) < 2:
            continue
        share_X += mine.sum() * _eta(value_CX[mine], group_C[mine])
        weight += int(mine.sum())
    return share_X / max(1, weight)


def _eta(value_CX: np.ndarray, group_C: np.ndarray) -> np.ndarray:
    """Sum of squares between groups over all, [X]."""
    mean_X = value_CX.mean(0)
    all_X = ((value_CX - mean_X) ** 2).sum(0)
    between_X = np.zeros_like(all_X)
    for one in np.unique(group_C):
        mine = group_C == one
        between_X += mine.sum() * (value_CX[mine].mean(0) - mean_X) ** 2
    return np.divide(between_X, all_X, out=np.zeros_like(all_X), where=all_X > 1e-12)


def told_by(
    grouping: str,
    value_CF: np.ndarray,
    group_C: np.ndarray,
    type_C: np.ndarray,
    n_features: int,
    genes_CG: np.ndarray,
    *,
    permutations: int = 500,
    most: int = 20,
    seed: int = 0,
) -> ToldBy:
    """Test every live feature; `n_features` a layer, `genes_CG` log-normalised genes of the same cells."""
    rng = np.random.default_rng(seed)
    live = np.flatnonzero((value_CF != 0).mean(0) > 0.05)
    value_CX = value_CF[:, live].astype(np.float64)
    found_X, p_X, null_top = p_of_grouping(value_CX, group_C, type_C, permutations, rng)
    q_X = q_values(p_X)
    of_type_X = between(value_CX, type_C, np.zeros(len(type_C)))
    called_X = q_X < CERTAIN
    order = [x for x in np.argsort(-found_X, kind="stable").tolist() if called_X[x]][:most]
    strongest = tuple(
        (
            int(live[x] // n_features),
            int(live[x] % n_features),
            float(found_X[x]),
            float(of_type_X[x]),
            float(q_X[x]),
        )
        for x in order
    )
    expressed_CG = genes_CG[:, (genes_CG != 0).mean(0) > 0.05].astype(np.float64)
    return ToldBy(
        grouping,
        len(group_C),
        tuple(sorted(set(group_C.tolist()))),
        len(live),
        int(called_X.sum()),
        int((called_X & (found_X >= STRONG)).sum()),
        float(np.median(found_X)),
        float(np.quantile(found_X, 0.95)),
        null_top,
        float(np.quantile(between(expressed_CG, group_C, type_C), 0.95)),
        strongest,
    )


def p_of_grouping(
    value_CX: np.ndarray, group_C: np.ndarray, type_C: np.ndarray, permutations: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """η² of the grouping within types, its p by permutation of the groups within types, [X] each; and the
    95% quantile of η² after the first permutation."""
    found_X = between(value_CX, group_C, type_C)
    reached_X, null_top = np.zeros(value_CX.shape[1]), float("nan")
    for start in range(0, permutations, AT_ONCE):
        size = min(AT_ONCE, permutations - start)
        drawn_PC = np.stack([permuted_within_types(group_C, type_C, rng) for _ in range(size)])
        null_PX = _between_draws(value_CX, drawn_PC, type_C)
        reached_X += (null_PX >= found_X - ROUNDING).sum(0)
        null_top = float(np.quantile(null_PX[0], 0.95)) if start == 0 else null_top
    return found_X, (1 + reached_X) / (1 + permutations), null_top


def _between_draws(value_CX: np.ndarray, group_PC: np.ndarray, type_C: np.ndarray) -> np.ndarray:
    """`between` of many groupings whose groups have as many cells of each type, a product a type, [P, X]."""
    share_PX, weight = np.zeros((len(group_PC), value_CX.shape[1])), 0
    for one in np.unique(type_C):
        mine = type_C == one
        names, count_K = np.unique(group_PC[0, mine], return_counts=True)
        if len(names) < 2:
            continue
        centred_CX = value_CX[mine] - value_CX[mine].mean(0)
        all_X = (centred_CX**2).sum(0)
        of_PKC = (group_PC[:, None, mine] == names[None, :, None]) / np.sqrt(count_K)[None, :, None]
        sums_PKX = (of_PKC.reshape(-1, mine.sum()) @ centred_CX).reshape(len(group_PC), len(names), -1)
        between_PX = (sums_PKX**2).sum(1)
        varies_X = all_X > 1e-12
        share_PX += mine.sum() * np.where(varies_X, between_PX / np.where(varies_X, all_X, 1.0), 0.0)
        weight += int(mine.sum())
    return share_PX / max(1, weight)


def permuted_within_types(group_C: np.ndarray, type_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups permuted within types."""
    out_C = group_C.copy()
    for one in np.unique(type_C):
        mine = np.flatnonzero(type_C == one)
        out_C[mine] = group_C[rng.permutation(mine)]
    return out_C


def answers_without(
    tracers: dict[str, tuple[Tracer, np.ndarray]],
    features: Sequence[tuple[int, int]],
    mean_F: np.ndarray,
    live_share_F: np.ndarray,
    *,
    draws: int = 3,
    seed: int = 0,
) -> tuple[Without, ...]:
    """Answers on each study (tracer and rows) in the replaced model: with all features, with these held at
    `mean_F` [F of all layers], and with `draws` sets of random features in their place."""
    first = next(iter(tracers.values()))[0]
    n = first.transcoders.n_features
    sets = [features, *_matched(features, mean_F, live_share_F, n, draws, seed)]
    out = []
    for study, (tracer, rows) in tracers.items():
        truth = tracer.table.answers[rows]
        cells, lead = tracer.encode(rows), answer_form(tracer.lm, tracer.table).lead
        right = []
        for held in [(), *sets]:
            with replaced_mlps(tracer.lm, held_stand_ins(tracer, held, mean_F)):
                given = predicted(score_labels(tracer.lm, cells, tracer.labels, lead), tracer.labels)
            right.append(int((np.array(given) == truth).sum()))
        out.append(Without(study, len(rows), right[0], right[1], tuple(right[2:])))
    return tuple(out)


def _matched(
    features: Sequence[tuple[int, int]],
    mean_F: np.ndarray,
    live_share_F: np.ndarray,
    n: int,
    draws: int,
    seed: int,
) -> list[list[tuple[int, int]]]:
    """Random live features of the same layers, each of about the same mean activation as one of these."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = []
        for layer in sorted({layer for layer, _ in features}):
            wanted = [str(number) for one, number in features if one == layer]
            part = slice(layer * n, (layer + 1) * n)
            live = {
                str(number): float(mean_F[part][number])
                for number in np.flatnonzero(live_share_F[part] > 0.05).tolist()
            }
            drawn += [(layer, int(one)) for one in rank_matched(live, wanted, rng)]
        out.append(drawn)
    return out


def held_stand_ins(
    tracer: Tracer, features: Sequence[tuple[int, int]], mean_F: np.ndarray
) -> dict[int, Callable[[torch.Tensor], torch.Tensor]]:
    """Every MLP by its transcoder, these features held at their mean at all tokens."""
    n = tracer.transcoders.n_features
    found: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {}
    for layer, coder in enumerate(tracer.transcoders.layers):
        numbers = [number for one, number in features if one == layer]
        level = torch.from_numpy(mean_F[layer * n : (layer + 1) * n][numbers])
        held = (torch.tensor(numbers, dtype=torch.long), level.to(tracer.lm.dtype))
        found[layer] = partial(_held, coder, *(part.to(tracer.lm.device) for part in held))
    return found


def _held(coder: Any, number_U: torch.Tensor, level_U: torch.Tensor, x_Td: torch.Tensor) -> torch.Tensor:
    z_TF = coder.encode(x_Td)
    z_TF[..., number_U] = level_U
    return coder.reconstruct(x_Td, z_TF)
