"""Predicted beside measured changes: agreement of each predictor, its chance, and when data are too weak.

Legend: T targets, G genes, X permutations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.cells.differential import log_expression, moments
from scx_core.evidence.biology.perturbations import (
    MeasuredChanges,
    PerturbationConfig,
    Reading,
    Screen,
    in_silico,
    measured_changes,
    open_screen,
    panel,
    spearman,
)
from scx_core.language import Language
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.runs.provenance import provenance
from scx_core.statistics.hypothesis_tests import Q
from scx_core.statistics.intervals import Interval, bootstrap, wilson
from scx_core.statistics.resampling import CORRELATION, MeanInterval, mean_interval, one_group

IN_SILICO, MATCHED, COEXPRESSION, MEAN, OTHERS = PREDICTORS = (
    *("in silico", "rank-matched", "co-expression", "mean expression", "other targets"),
)
WORDS = {
    IN_SILICO: "in-silico knock-out",
    MATCHED: "in silico, less another gene of its rank",
    COEXPRESSION: "co-expression in control cells (negative)",
    MEAN: "mean expression (negative)",
    OTHERS: "mean measured change of the other targets",
}
SHUFFLED = (
    IN_SILICO,
    MATCHED,
    COEXPRESSION,
)  # the others say the same of all targets, or hold the measured changes
WEAK_KNOCKDOWN = 0.5  # of control: the own gene of a target above it was hardly taken away
WEAK_RELIABILITY = 0.3  # agreement of two halves of the cells
FEWEST = 5  # genes that are read, to correlate at all
CONTROL_CELLS = 2000  # from which co-expression is computed, at most


class Agreement(NamedTuple):
    """Of a predictor with a target's measured changes over `n` genes: Spearman with its interval (bootstrap
    over genes); of the `signs` genes that changed certainly, `same` have the predicted sign."""

    spearman: float
    low: float
    high: float
    n: int
    same: int
    signs: int


class TargetChanges(NamedTuple):
    """One target. `left`: its own gene's expression over that in control cells (nan: no gene of the panel),
    `own` the same in log-normalised change; `changed` other genes with q < 0.05; `reliability` of the changes
    (two halves); `held` of `asked` control cells were read, over `n_read` genes; `weak`: why little can be
    expected of it, empty where nothing speaks against it; `genes`: rows of all genes."""

    target: str
    n: int
    left: float
    own: MeanInterval | None
    changed: int
    reliability: float
    held: int
    asked: int
    n_read: int
    agreement: dict[str, Agreement]
    weak: tuple[str, ...]
    genes: tuple[dict[str, Any], ...]

    @property
    def readable(self) -> bool:
        """Whether the model says anything of enough genes."""
        return IN_SILICO in self.agreement


class PooledAgreement(NamedTuple):
    """A predictor over several targets: mean Spearman with its interval over targets; `behind`: the in-silico
    knock-out's less its own; signs; p against shuffled targets, and `chance`, what shuffles reach in 5%."""

    predictor: str
    mean: MeanInterval
    behind: MeanInterval | None
    same: int
    signs: int
    sign_low: float
    sign_high: float
    p: float | None
    chance: float | None


class Pool(NamedTuple):
    """Some targets together."""

    name: str
    targets: tuple[str, ...]
    rows: tuple[PooledAgreement, ...]
    ceiling: float


class Perturbations(NamedTuple):
    """All targets, pooled: all that can be read, and those that nothing speaks against."""

    targets: tuple[TargetChanges, ...]
    pools: tuple[Pool, ...]
    n_control: int
    n_genes: int
    left_out: dict[str, int]
    own_cells: bool
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, None for what is undefined."""
        return _plain(
            {
                "targets": [
                    one._asdict()
                    | {
                        "own": one.own and one.own._asdict(),
                        "agreement": {name: found._asdict() for name, found in one.agreement.items()},
                    }
                    for one in self.targets
                ],
                "pools": [
                    pool._asdict()
                    | {
                        "rows": [
                            row._asdict()
                            | {"mean": row.mean._asdict(), "behind": row.behind and row.behind._asdict()}
                            for row in pool.rows
                        ]
                    }
                    for pool in self.pools
                ],
                "n_control": self.n_control,
                "n_genes": self.n_genes,
                "left_out": self.left_out,
                "never_read": self.own_cells,
                "provenance": self.provenance,
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def perturbations(
    lm: Language,
    table: CellTable,
    column: str,
    control: str,
    cfg: PerturbationConfig | None = None,
    *,
    read_in: np.ndarray | None = None,
    progress: Progress = silent,
) -> Perturbations:
    """Measured changes of every target beside in-silico knock-outs and their rivals.

    `read_in`: the control rows in which genes are taken out (default: all; a model that was trained on some
    control cells is asked about others). Raises ScxError for an unknown column or control label.
    """
    cfg = cfg or PerturbationConfig()
    screen = open_screen(table, column, control)
    measured = measured_changes(table, screen, cfg)
    rows = np.random.default_rng([cfg.seed, 2]).permutation(screen.control if read_in is None else read_in)
    genes = panel(table, screen, cfg)
    readings = []
    for done, target in enumerate(measured.targets):
        progress(done, len(measured.targets), target)
        readings.append(in_silico(lm, table, rows, target, genes, cfg))
    progress(len(measured.targets), len(measured.targets), "")
    predicted = predictions(table, screen, measured, readings, cfg)
    found = tuple(
        _target(measured, t, reading, {name: one[t] for name, one in predicted.items()}, cfg)
        for t, reading in enumerate(readings)
    )
    pools = [
        ("all targets that can be read", [t for t, one in enumerate(found) if one.readable]),
        (
            "those with a clear knock-down and repeatable changes",
            [t for t, one in enumerate(found) if one.readable and not one.weak],
        ),
    ]
    about = provenance(config={"perturbations": to_dict(cfg)}, data=table, model=lm, seed=cfg.seed)
    return Perturbations(
        found,
        tuple(_pool(name, at, found, measured, predicted, cfg) for name, at in pools if len(at) > 1),
        len(screen.control),
        table.n_genes,
        {name: len(rows) for name, rows in screen.targets.items() if len(rows) < cfg.least},
        read_in is not None,
        about | {"column": column, "control": control},
    )


def predictions(
    table: CellTable,
    screen: Screen,
    measured: MeasuredChanges,
    readings: list[Reading],
    cfg: PerturbationConfig,
) -> dict[str, np.ndarray]:
    """What every predictor says of each target and gene [T, G]; nan where it says nothing. All are held to
    the genes that the model could be asked about, and never to a target's own gene."""
    symbols = measured.genes
    silico_TG = np.array([one.change_G for one in readings])
    rng = np.random.default_rng([cfg.seed, 3])
    rows = np.sort(rng.permutation(screen.control)[:CONTROL_CELLS])
    rank_CG = log_expression(table, rows).toarray()
    rank_CG = np.apply_along_axis(_ranks, 0, rank_CG)
    together_TG = np.full_like(silico_TG, math.nan)
    for t, target in enumerate(measured.targets):
        at = np.flatnonzero(symbols == target)
        if len(at):
            together_TG[t] = -(rank_CG.T @ rank_CG[:, at[0]]) / len(rank_CG)
    mean_G = moments(table, screen.control).mean_G
    n = len(measured.targets)
    others_TG = (measured.change_TG.sum(0) - measured.change_TG) / max(1, n - 1)
    found = {
        IN_SILICO: silico_TG,
        MATCHED: np.array([one.matched_G for one in readings]),
        COEXPRESSION: together_TG,
        MEAN: np.tile(-mean_G, (n, 1)),
        OTHERS: others_TG if n > 1 else np.full_like(others_TG, math.nan),
    }
    hidden_TG = ~np.isfinite(silico_TG) | (symbols[None] == np.array(measured.targets)[:, None])
    return {name: np.where(hidden_TG, math.nan, value_TG) for name, value_TG in found.items()}


def _ranks(value_C: np.ndarray) -> np.ndarray:
    """Standardised ranks; zeros for a constant column."""
    from scipy.stats import rankdata

    rank_C = rankdata(value_C)
    sd = rank_C.std()
    return (rank_C - rank_C.mean()) / sd if sd > 0 else np.zeros_like(rank_C)


def _target(
    measured: MeasuredChanges,
    t: int,
    reading: Reading,
    predicted: Mapping[str, np.ndarray],
    cfg: PerturbationConfig,
) -> TargetChanges:
    target, symbols = measured.targets[t], measured.genes
    own_at = np.flatnonzero(symbols == target)
    certain_G = (measured.q_TG[t] < Q) & (symbols != target)
    n_read = int(np.isfinite(predicted[IN_SILICO]).sum())
    agreement = {}
    if n_read >= FEWEST:
        for name, value_G in predicted.items():
            agreement[name] = _agreement(value_G, measured.change_TG[t], certain_G)
    own = None
    if len(own_at):
        g = own_at[0]
        own = MeanInterval(
            *(float(part[t, g]) for part in (measured.change_TG, measured.low_TG, measured.high_TG))
        )
    left, reliability = float(measured.left_T[t]), float(measured.reliability_T[t])
    weak = []
    if not len(own_at):
        weak.append("no gene of the panel: it cannot be taken out of a sentence")
    elif not left < WEAK_KNOCKDOWN:
        weak.append(f"weak knock-down: {left:.2f} of its own expression is left")
    if not reliability >= WEAK_RELIABILITY:
        weak.append(f"changes do not repeat between halves of the cells (reliability {reliability:.2f})")
    if len(own_at) and n_read < FEWEST:
        weak.append(f"in {reading.held} of {reading.asked} control sentences, {n_read} genes read: too few")
    rows = tuple(
        {
            "gene": str(symbols[g]),
            "measured": float(measured.change_TG[t, g]),
            "low": float(measured.low_TG[t, g]),
            "high": float(measured.high_TG[t, g]),
            "q": float(measured.q_TG[t, g]),
            "in_silico": float(reading.change_G[g]),
            "rank_matched": float(reading.matched_G[g]),
            "in_silico_low": float(reading.low_G[g]),
            "in_silico_high": float(reading.high_G[g]),
            "cells": int(reading.n_G[g]),
        }
        for g in np.argsort(measured.q_TG[t], kind="stable").tolist()
    )
    n_changed = int(certain_G.sum())
    parts = (target, int(measured.n_T[t]), left, own, n_changed, reliability, reading.held, reading.asked)
    return TargetChanges(*parts, n_read, agreement, tuple(weak), rows)


def _agreement(predicted_G: np.ndarray, measured_G: np.ndarray, certain_G: np.ndarray) -> Agreement:
    both = np.isfinite(predicted_G)
    from scipy.stats import rankdata

    x, y = (rankdata(one[both]) for one in (predicted_G, measured_G)) if both.any() else (np.zeros(0),) * 2
    sums = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)
    span = bootstrap(sums, _correlation) if both.sum() >= FEWEST else Interval(math.nan, math.nan)
    counted = both & certain_G & (np.where(both, predicted_G, 0.0) != 0)
    same = np.sign(predicted_G[counted]) == np.sign(measured_G[counted])
    return Agreement(
        spearman(predicted_G, measured_G),
        float(span.low),
        float(span.high),
        int(both.sum()),
        int(same.sum()),
        len(same),
    )


def _correlation(sums_KS: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = sums_KS.T
    return np.asarray((xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n)))


def _pool(
    name: str,
    at: list[int],
    found: tuple[TargetChanges, ...],
    measured: MeasuredChanges,
    predicted: Mapping[str, np.ndarray],
    cfg: PerturbationConfig,
) -> Pool:
    """Means over targets; targets' predictions against one another's measured changes are the chance."""
    sampling = one_group(len(at), cfg.seed)
    rho = {one: np.array([found[t].agreement[one].spearman for t in at]) for one in PREDICTORS}
    rows = []
    for one in PREDICTORS:
        agreed = [found[t].agreement[one] for t in at]
        same, signs = sum(a.same for a in agreed), sum(a.signs for a in agreed)
        share = wilson(same, signs)
        known = np.isfinite(rho[one]).all()
        mean = mean_interval(rho[one], sampling, CORRELATION) if known else MeanInterval(*[math.nan] * 3)
        behind = mean_interval(rho[IN_SILICO] - rho[one], sampling) if known and one != IN_SILICO else None
        p, chance = None, None
        if one in SHUFFLED and known:
            p, chance = shuffled(predicted[one][at], measured, at, cfg)
        rows.append(PooledAgreement(one, mean, behind, same, signs, share.low, share.high, p, chance))
    reliability = np.array([found[t].reliability for t in at])
    return Pool(name, tuple(found[t].target for t in at), tuple(rows), float(np.sqrt(reliability).mean()))


def shuffled(
    predicted_TG: np.ndarray, measured: MeasuredChanges, at: list[int], cfg: PerturbationConfig
) -> tuple[float, float]:
    """p of the mean Spearman against permuted targets (one-sided), and the 95% point of the permuted means.

    Every prediction is held against every measured change once (genes of both targets left out of each); a
    permutation is a mean over one entry of each row and column."""
    n = len(at)
    rho_TT = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            other = measured.genes == measured.targets[at[b]]
            rho_TT[a, b] = spearman(np.where(other, math.nan, predicted_TG[a]), measured.change_TG[at[b]])
    rho_TT = np.nan_to_num(rho_TT)
    rng = np.random.default_rng([cfg.seed, 4])
    order_XT = np.array([rng.permutation(n) for _ in range(cfg.shuffles)])
    mean_X = rho_TT[np.arange(n), order_XT].mean(1)
    beyond = int((mean_X >= rho_TT.diagonal().mean() - 1e-12).sum())
    return (1 + beyond) / (1 + cfg.shuffles), float(np.quantile(mean_X, 0.95))
