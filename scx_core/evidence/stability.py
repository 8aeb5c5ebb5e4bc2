"""Is the circuit of a cell type still the same when something else that should not matter is changed?

| what is changed | what is compared |
|---|---|
| cells | disjoint random halves of the cells |
| donors | the cells of each donor with those of the others |
| ties | other orders of genes of equal expression |
| prompts | other wordings around the same cells |
| transcoder seeds | another set of transcoders of the same model |
| model seeds | another model with its own transcoders |

Compared are mean effects over the cells, of genes and of features: Jaccard's index of the 10 and 20
strongest,
Spearman's correlation over all. Features of another set are those that match mutually by activation
(scx_core.atlas.match); what has no match counts as different. Chance: the second side's effects dealt anew,
among genes that stand next to each other in the sentences, or among features of a layer; for another set,
that
is the matching permuted. Where the same cells are on both sides the interval is a bootstrap over cells, which
adds noise of its own: the figure may lie at its upper end. Of halves it is what 95% of the splits give, of
donors the least and the most.
Legend: C cells, X genes or features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from scx_core.atlas.match.common_cells import Side
from scx_core.atlas.match.matching import ACTIVATION, MatchConfig, match_sets
from scx_core.attribution.replacement_model import replacement
from scx_core.cells.choices import as_names
from scx_core.circuits import Tracer
from scx_core.circuits.consensus import ConsensusConfig, Merged
from scx_core.circuits.stability import TOPS, Alike, alike, with_prompt, with_ties
from scx_core.circuits.trace import TraceConfig
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.studies.gene_ranks import effects_in_cells
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import q_values
from scx_core.transcoders import TranscoderSet

KINDS = ("genes", "features")
NEIGHBOURS = 10  # genes that stand next to each other and are dealt among themselves
CERTAIN = 0.05


@dataclass(frozen=True)
class StabilityConfig:
    """How many cells, and how often each comparison is repeated."""

    cells: int = option(30, "Cells of the type", minimum=4)
    varied: int = option(0, "Of them, those traced again with each thing changed (0: all)", minimum=0)
    splits: int = option(20, "Random halves of the cells", minimum=1)
    ties: int = option(2, "Other orders of genes of equal expression", minimum=0)
    resamples: int = option(100, "Bootstraps over cells", minimum=20)
    draws: int = option(200, "Draws of what chance gives", minimum=20)
    matched_on: int = option(100, "Cells on which features of two sets are matched", minimum=10)
    nodes: int = option(192, "Features a cell that are traced", minimum=1)
    seed: int = option(0, "Seed of cells, halves and draws", minimum=0)


STABILITY = StabilityConfig()


class Reading(NamedTuple):
    """Effects by cell: `effect_CX` of `names`, 0 where a cell's circuit lacks one; `stratum_X`: among which
    of them chance deals."""

    names: tuple[str, ...]
    effect_CX: np.ndarray
    stratum_X: np.ndarray

    def mean(self, weight_C: np.ndarray) -> dict[str, float]:
        """The effect of every name that has one, over weighted cells."""
        mean_X = weight_C @ self.effect_CX / weight_C.sum()
        return {self.names[x]: float(mean_X[x]) for x in np.flatnonzero(mean_X)}

    def of_first(self, n: int) -> Reading:
        """That of the first n cells."""
        return self._replace(effect_CX=self.effect_CX[:n])

    def dealt(self, rng: np.random.Generator) -> Reading:
        """The same effects under other names of their stratum."""
        order = np.lexsort((rng.random(len(self.names)), self.stratum_X))
        names = np.empty(len(self.names), dtype=object)
        names[np.argsort(self.stratum_X, kind="stable")] = np.array(self.names, dtype=object)[order]
        return self._replace(names=tuple(names.tolist()))


class Compared(NamedTuple):
    """One figure: mean over the pairs, its interval, what chance gives (mean, and what 97.5% of its draws
    stay below), p that chance gives as much, and q over all figures of the table."""

    kind: str
    figure: str
    value: float
    low: float
    high: float
    chance: float
    chance_high: float
    p: float
    q: float = 1.0


class Axis(NamedTuple):
    """What was changed: `pairs` compared, on `n` cells; `interval` says over what the intervals are;
    `matched`: share of the first set's live features with a match (None: the same features)."""

    name: str
    words: str
    pairs: int
    n: int
    interval: str
    figures: tuple[Compared, ...]
    matched: float | None = None

    def of(self, kind: str, figure: str) -> Compared:
        """ "genes" or "features"; "top 10", "top 20" or "spearman". Raises KeyError."""
        return {(one.kind, one.figure): one for one in self.figures}[kind, figure]


@shown
class Stability(NamedTuple):
    """All that was changed for one type, and why the rest was not."""

    label: str
    answer: str
    n_cells: int
    axes: tuple[Axis, ...]
    left_out: dict[str, str]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        changed = ", ".join(axis.name for axis in self.axes)
        return f"<Stability of {self.label!r}: {changed} changed; {counted(self.n_cells, 'cell')}>"

    @property
    def above_chance(self) -> bool:
        """Whether the twenty strongest genes are shared more than chance gives, whatever was changed."""
        return all(axis.of("genes", "top 20").q < CERTAIN for axis in self.axes)

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        axes = [one._asdict() | {"figures": [each._asdict() for each in one.figures]} for one in self.axes]
        return self._asdict() | {"axes": axes, "above_chance": self.above_chance}


class _Pair(NamedTuple):
    """Two readings; which cells of each count. `same`: the same cells in the same order, drawn together."""

    first: Reading
    second: Reading
    weight_2C: tuple[np.ndarray, np.ndarray]
    same: bool


Readings = Mapping[str, Reading]


def stability(
    tracer: Tracer,
    label: str,
    *,
    answer: str | None = None,
    rows: np.ndarray | None = None,
    prompts: Sequence[str] = (),
    sets: Sequence[TranscoderSet] = (),
    models: Sequence[Tracer] = (),
    kinds: Sequence[str] = KINDS,
    cfg: StabilityConfig = STABILITY,
    progress: Progress = silent,
) -> Stability:
    """How alike the circuit of a cell type stays, each thing changed by itself.

    `rows`: its cells (default: drawn); `prompts`: names or texts of other wordings; `sets`: other transcoders
    of the same model; `models`: tracers of other models over the same table; `kinds`: genes alone need no
    circuit to be traced, and cost a tenth. Raises ScxError when the table has fewer than four cells of the
    type, the model no such answer, or a tracer holds other cells.
    """
    prompts = as_names(prompts)
    models = [_same_cells(tracer, one) for one in models]
    rows = _rows(tracer, label, cfg) if rows is None else np.asarray(rows)
    answer = answer or tracer.answer_for(label)
    base = readings(tracer, rows, answer, cfg, kinds, progress)
    axes, left_out = [_axis("cells", "disjoint halves", _halves(base, cfg), cfg)], dict[str, str]()
    if (pairs := _donors(base, tracer.donors(rows))) is not None:
        axes.append(_axis("donors", "each against the others", pairs, cfg))
    else:
        left_out["donors"] = "fewer than two are known"
    changes = _changes(tracer, prompts, sets, models, cfg)
    left_out |= {name: why for name, why in NOT_CHANGED.items() if name not in changes}
    first = {kind: one.of_first(cfg.varied or len(rows)) for kind, one in base.items()}
    for done, (name, (words, others)) in enumerate(changes.items()):
        progress(done, len(changes), name)
        axes.append(_changed(tracer, first, rows, (label, answer), name, words, others, cfg))
    about = tracer.about({"stability": to_dict(cfg)}, seed=cfg.seed, cells=rows.tolist())
    about["others"] = [one.fingerprint for one in sets] + [one.lm.fingerprint for one in models]
    return Stability(label, answer, len(rows), _with_q(axes), left_out, about)


NOT_CHANGED = {
    "ties": "no other order was asked for (--ties)",
    "prompts": "no other wording was given (--prompts)",
    "transcoder seeds": "no other set was given (--other)",
    "model seeds": "no other model was given (--other-model)",
}
Others = Sequence[tuple[Tracer, TranscoderSet | None]]  # with the set whose features are matched


def _changes(
    tracer: Tracer,
    prompts: Sequence[str],
    sets: Sequence[TranscoderSet],
    models: Sequence[Tracer],
    cfg: StabilityConfig,
) -> dict[str, tuple[str, Others]]:
    """What is changed, in words, and the tracers that differ from ours by that alone."""
    own = tracer.lm.sentence_config.tie_seed
    tied = [(with_ties(tracer, own + 1 + k), None) for k in range(cfg.ties)]
    asked: dict[str, tuple[str, Others]] = {
        "ties": (f"{cfg.ties} other orders", tied),
        "prompts": ("; ".join(prompts), [(with_prompt(tracer, name), None) for name in prompts]),
        "transcoder seeds": (f"{len(sets)} other sets", [(_with_set(tracer, one), one) for one in sets]),
        "model seeds": (f"{len(models)} other models", [(one, one.transcoders) for one in models]),
    }
    return {name: (words, others) for name, (words, others) in asked.items() if others}


def _changed(
    tracer: Tracer,
    base: Readings,
    rows: np.ndarray,
    asked: tuple[str, str],
    name: str,
    words: str,
    others: Others,
    cfg: StabilityConfig,
) -> Axis:
    """One axis: the same cells, read by every other tracer. `asked`: their type, and our answer to it."""
    found, shares, (label, answer) = [], [], asked
    ones_C = np.ones(len(base["genes"].effect_CX))
    for other, matched_to in others:
        own = answer if answer in other.labels else other.answer_for(label)
        second = readings(other, rows[: len(ones_C)], own, cfg, tuple(base))
        if matched_to is not None and "features" in second:
            renamed, share = _matched(tracer, other, second["features"], cfg)
            second["features"] = renamed
            shares.append(share)
        found.append({kind: _Pair(base[kind], second[kind], (ones_C, ones_C), True) for kind in base})
    axis = _axis(name, words, found, cfg)
    return axis._replace(matched=float(np.mean(shares)) if shares else None)


def _rows(tracer: Tracer, label: str, cfg: StabilityConfig) -> np.ndarray:
    rows = tracer.draw(label, ConsensusConfig(cells=cfg.cells, seed=cfg.seed))
    if len(rows) < 4:
        raise ScxError(f"{label!r} has {len(rows)} cells: too few to compare halves.", "Take another type.")
    return rows


def _with_set(tracer: Tracer, coders: TranscoderSet) -> Tracer:
    return replace(tracer, transcoders=coders, rep=replacement(tracer.lm, coders), names=None)


def _same_cells(tracer: Tracer, other: Tracer) -> Tracer:
    if tracer.table.fingerprint != other.table.fingerprint:
        raise ScxError(
            f"{tracer.table.name} and {other.table.name} are not the same cells.",
            "Trace both models on one data set.",
        )
    return other


def readings(
    tracer: Tracer,
    rows: np.ndarray,
    answer: str,
    cfg: StabilityConfig,
    kinds: Sequence[str] = KINDS,
    progress: Progress = silent,
) -> dict[str, Reading]:
    """Effects of genes, and of features where they are asked for, in each cell, traced once."""
    if "features" not in kinds:
        return {"genes": _genes(effects_in_cells(tracer, rows, answer))}
    trace, consensus = TraceConfig(), ConsensusConfig(cells=max(2, len(rows)), nodes=cfg.nodes)
    merged = tracer.merged(rows, tracer.plan(answer), trace, consensus, progress, answer)
    return {"genes": _genes([cell.genes for cell in merged]), "features": _features(merged)}


def _genes(cells: Sequence[Mapping[str, tuple[float, float]]]) -> Reading:
    """From each cell's genes: effect and rank."""
    names = sorted({gene for cell in cells for gene in cell})
    column = {name: x for x, name in enumerate(names)}
    effect_CX, place_CX = np.zeros((len(cells), len(names))), np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CX[c, column[gene]], place_CX[c, column[gene]] = effect, rank
    behind = np.nanmax(place_CX) + 1
    place_X = np.where(np.isnan(place_CX), behind, place_CX).mean(0)
    return Reading(tuple(names), effect_CX, np.argsort(np.argsort(place_X, kind="stable")) // NEIGHBOURS)


def _features(cells: Sequence[Merged]) -> Reading:
    layer = {
        name: node.layer or 0 for cell in cells for name, node in cell.nodes.items() if node.kind == "feature"
    }
    names = sorted(layer)
    column = {name: x for x, name in enumerate(names)}
    effect_CX = np.zeros((len(cells), len(names)))
    for c, cell in enumerate(cells):
        for (name, node), value_3 in zip(cell.nodes.items(), cell.value_M3, strict=True):
            if node.kind == "feature":
                effect_CX[c, column[name]] = value_3[2]
    return Reading(tuple(names), effect_CX, np.array([layer[name] for name in names], dtype=np.int64))


def _matched(first: Tracer, second: Tracer, found: Reading, cfg: StabilityConfig) -> tuple[Reading, float]:
    """The second side's features under the names of those of the first that they match mutually."""
    one, other = (Side(each.lm, each.transcoders) for each in (first, second))
    match = match_sets(one, other, first.table, cfg=MatchConfig(cells=cfg.matched_on, seed=cfg.seed))
    pairs = match.pairs[(match.pairs.way == ACTIVATION)]
    mutual = pairs[pairs.mutual]
    name_of = {f"f:{row.layer}:{row.other}": f"f:{row.layer}:{row.feature}" for row in mutual.itertuples()}
    names = tuple(name_of.get(name, f"other {name}") for name in found.names)
    return found._replace(names=names), len(mutual) / max(1, len(pairs))


def _halves(base: Readings, cfg: StabilityConfig) -> list[dict[str, _Pair]]:
    n, rng = len(base["genes"].effect_CX), np.random.default_rng([cfg.seed, 1])
    found = []
    for _ in range(cfg.splits):
        half_C = np.isin(np.arange(n), rng.permutation(n)[: n // 2]).astype(float)
        found.append({k: _Pair(base[k], base[k], (half_C, 1 - half_C), False) for k in base})
    return found


def _donors(base: Readings, donors: Sequence[str] | None) -> list[dict[str, _Pair]] | None:
    names = sorted({one for one in donors or () if one})
    if len(names) < 2:
        return None
    own = [(np.array(donors) == name).astype(float) for name in names]
    return [{k: _Pair(base[k], base[k], (one_C, 1 - one_C), False) for k in base} for one_C in own]


def _axis(name: str, words: str, pairs: Sequence[Mapping[str, _Pair]], cfg: StabilityConfig) -> Axis:
    """All figures of one change."""
    first = pairs[0]["genes"]
    interval = "bootstrap over cells" if first.same else "95% of splits" if name == "cells" else "least, most"
    figures = [
        one for kind in pairs[0] for one in _compared(kind, [pair[kind] for pair in pairs], interval, cfg)
    ]
    return Axis(name, words, len(pairs), len(first.first.effect_CX), interval, tuple(figures))


def _compared(kind: str, pairs: Sequence[_Pair], interval: str, cfg: StabilityConfig) -> list[Compared]:
    rng, n = np.random.default_rng([cfg.seed, 2]), len(pairs[0].first.effect_CX)

    def figures(change: Callable[[_Pair], _Pair]) -> np.ndarray:
        """Of every pair, [pairs, figures]."""
        of = [change(pair) for pair in pairs]
        return np.array(
            [_numbers(alike(p.first.mean(p.weight_2C[0]), p.second.mean(p.weight_2C[1]))) for p in of]
        )

    own_PF = figures(lambda pair: pair)
    dealt_DF = np.array(
        [
            np.nanmean(figures(lambda pair: pair._replace(second=pair.second.dealt(rng))), axis=0)
            for _ in range(cfg.draws)
        ]
    )
    spread_SF = own_PF
    if pairs[0].same:
        drawn = [rng.multinomial(n, np.full(n, 1 / n)).astype(float) for _ in range(cfg.resamples)]
        drawn_PF = [figures(partial(_weighted, weight_C=weight_C)) for weight_C in drawn]
        spread_SF = np.array(drawn_PF).mean(1)
    ends = (0.0, 1.0) if interval == "least, most" else (0.025, 0.975)
    low_F, high_F = np.nanquantile(spread_SF, ends, axis=0)
    mean_F = np.nanmean(own_PF, axis=0)
    p_F = (1 + (dealt_DF >= mean_F - 1e-12).sum(0)) / (1 + cfg.draws)
    top_F = np.nanquantile(dealt_DF, 0.975, axis=0)
    columns = (mean_F, low_F, high_F, np.nanmean(dealt_DF, axis=0), top_F, p_F)
    names = [*(f"top {top}" for top in TOPS), "spearman"]
    return [
        Compared(kind, name, *map(float, row)) for name, row in zip(names, np.array(columns).T, strict=True)
    ]


def _weighted(pair: _Pair, weight_C: np.ndarray) -> _Pair:
    return pair._replace(weight_2C=(weight_C, weight_C))


def _numbers(found: Alike) -> list[float]:
    return [*(found.jaccard[top] for top in TOPS), found.spearman]


def _with_q(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """q over every figure of the table."""
    q = iter(q_values(np.array([one.p for axis in axes for one in axis.figures])).tolist())
    return tuple(
        axis._replace(figures=tuple(one._replace(q=next(q)) for one in axis.figures)) for axis in axes
    )


def stability_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table, from the JSON of one type: figure [interval], and chance behind it."""
    head = ("type", "changed", "pairs", "cells")
    there = {(one["kind"], one["figure"]) for axis in result["axes"] for one in axis["figures"]}
    names = [(kind, name) for kind in KINDS for name in (*(f"top {top}" for top in TOPS), "spearman")]
    names = [name for name in names if name in there]  # features may not have been compared
    rows = []
    for axis in result["axes"]:
        by = {(one["kind"], one["figure"]): one for one in axis["figures"]}
        cells = [
            f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}], chance {one['chance']:.2f}"
            for one in (by[name] for name in names)
        ]
        rows.append((result["label"], axis["name"], str(axis["pairs"]), str(axis["n"]), *cells))
    return (*head, *(f"{kind}, {name}" for kind, name in names)), rows
