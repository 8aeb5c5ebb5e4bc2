"""Who else could have said it: transcoders beside neurons, SAEs, random directions and linear maps.

The same tracer and the same tests for every set. For a cell type:
 1. cells are drawn: some that searches see, others of the type, cells of other types as the reference;
 2. every set is searched for the fewest features that keep the wanted share of the real model's answer, all
    on one scale, and measured in the unseen cells (sufficiency.py);
 3. in unseen cells every gene of the sentence is knocked out in the real model, and each set's frozen
    attribution is held against that (rank correlation within the cell, then the mean over cells);
 4. known markers are counted among the ten genes with the strongest mean attribution.
Of each set as a whole: how it stands in for the MLPs on test cells, and how many of its features the atlas'
protocol gives a meaning (a gene, family, gene set, cell type or context). Gradient × input of the real model
stands beside where a ranking of genes is all that is asked.
Legend: C cells, G genes of a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas.judge.protocol import CONTEXT, DEAD, FAMILY, GENE, SET, TYPE
from scx_core.cells.choices import as_names
from scx_core.cells.markers import known_markers
from scx_core.circuits import Tracer
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import knock_out_all
from scx_core.evidence.knockouts.prediction import spearman
from scx_core.evidence.rankings.rankers import by_mean, gradient_times_input
from scx_core.evidence.rivals.stand_ins import (
    LINEAR,
    NAMES,
    TRANSCODERS,
    Fitting,
    rival_tracers,
)
from scx_core.evidence.rivals.sufficiency import SharedCells, SufficiencySettings, Sufficient
from scx_core.evidence.smallest.circuit_search import SearchConfig
from scx_core.evidence.smallest.smallest_circuit import LEAST_CELLS, split_cells
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.intervals import Interval, wilson
from scx_core.statistics.resampling import CORRELATION, MeanInterval, mean_interval, one_group
from scx_core.transcoders import TranscoderSet
from scx_core.validation import validate, validation_rows
from scx_core.validation.result import plain

GRADIENT = "gradient"  # of the real model: genes without any stand-in
WORDS: Mapping[str, str] = NAMES | {GRADIENT: "gradient × input"}
MEANINGFUL = (CONTEXT, FAMILY, GENE, SET, TYPE)  # verdicts that say what a feature is about
CERTAIN = 0.05  # q below which a difference counts


@dataclass(frozen=True)
class RivalConfig:
    """What every set is asked, and in how many cells."""

    wanted: float = option(
        0.8, "Share of the real answer to keep with the fewest features", minimum=0.0, maximum=1.0
    )
    margin: float = option(0.01, "Keep this much more in the cells of the search", minimum=0.0)
    search_cells: int = option(12, "Cells of the type that searches and rankings see", minimum=2)
    gradient_cells: int = option(6, "Of them, those in which gradients propose changes", minimum=1)
    unseen_cells: int = option(20, "Cells of the type that verify", minimum=2)
    reference_cells: int = option(36, "Cells of other types, for the reference", minimum=1)
    exchanges: int = option(0, "Rounds of exchanging single features behind the search", minimum=0)
    knocked: int = option(12, "Unseen cells in which every gene is knocked out", minimum=2)
    genes: int = option(10, "Strongest genes in which markers are counted", minimum=1)
    fit_cells: int = option(
        64, "Training cells on which random directions and linear maps are fitted", minimum=4
    )
    atlas_cells: int = option(240, "Cells of the protocol of features' meaning; 0: not asked", minimum=0)
    test_cells: int = option(0, "Test cells of the stand-ins; 0 takes all", minimum=0)
    types: int = option(6, "So many of the most frequent types, where none are named", minimum=1)
    seed: int = option(0, "Seed of all that is drawn", minimum=0)


RIVALS = RivalConfig()


class SetFigures(NamedTuple):
    """One set as a whole. On `n_test` test cells: `ce_recovered`, `kl`, `agreement` (labels that survive)
    with 95% intervals, `l0` active features a token and layer, `fvu`. `meaningful`: share of the live
    features (`n_live`) that are about something (None: not asked, or no features). `n_features`: of a layer.
    """

    name: str
    n_features: int
    n_test: int
    l0: float
    fvu: float
    ce_recovered: MeanInterval
    kl: MeanInterval
    agreement: MeanInterval
    meaningful: MeanInterval | None = None
    n_live: int | None = None


class Figures(NamedTuple):
    """One set in one type. `gap`, `text`: mean rank correlation of its gene effects with the two measured
    knock-outs; `ahead`: the transcoders' `gap` less this one's, cell by cell, with `p` and `q` (None for the
    transcoders). `markers` of `genes` are known ones (None: no list), with their share's interval.
    `sufficient` is None for what has no stand-in."""

    name: str
    sufficient: Sufficient | None
    gap: MeanInterval
    text: MeanInterval
    genes: tuple[str, ...]
    markers: int | None
    marker_share: Interval | None
    ahead: MeanInterval | None = None
    p: float | None = None
    q: float | None = None

    @property
    def verdict(self) -> str:
        """Whose attribution predicts knock-outs better: "transcoders", "rival", or "same"."""
        if self.ahead is None or self.q is None or self.q >= CERTAIN:
            return "same"
        return TRANSCODERS if self.ahead.mean > 0 else "rival"


class TypeFigures(NamedTuple):
    """All sets in one type. `n_search`, `n_unseen`, `n_knocked` cells; `logits`: the target's mean with every
    MLP at its mean, and in the real model; `listed` known markers (None: no list), of which `chance` is the
    share among the genes that the ranked sentences hold. `faint`: why shares of so small a difference
    between `empty` and `full` say little, in words; empty where they say something."""

    label: str
    answer: str
    n_search: int
    n_unseen: int
    n_knocked: int
    units: str
    empty: float
    full: float
    unit: str
    listed: int | None
    chance: float | None
    sets: tuple[Figures, ...]
    faint: tuple[str, ...] = ()

    def of(self, name: str) -> Figures:
        """The figures of a set by name. Raises KeyError."""
        return {one.name: one for one in self.sets}[name]


@shown
class Rivals(NamedTuple):
    """The table: every set as a whole, and in every type."""

    sets: tuple[SetFigures, ...]
    types: tuple[TypeFigures, ...]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Rivals: {counted(len(self.sets), 'set')}, {counted(len(self.types), 'type')}>"

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return {
            "sets": [plain(one) for one in self.sets],
            "types": [
                plain(one) | {"sets": [plain(two) | {"verdict": two.verdict} for two in one.sets]}
                for one in self.types
            ],
            "provenance": self.provenance,
        }


def compare_rivals(
    tracer: Tracer,
    labels: Sequence[str] | None = None,
    *,
    sae: TranscoderSet | None = None,
    cfg: RivalConfig = RIVALS,
    progress: Progress = silent,
) -> Rivals:
    """Transcoders beside other features and none, in some types (default: the `cfg.types` most frequent).

    `sae`: SAEs of the same MLPs' outputs; without them their column is missing. Raises ScxError for an
    unknown type, one with too few cells, or SAEs that do not fit the model.
    """
    wanted = _wanted(tracer, labels, cfg)
    tracers = rival_tracers(tracer, sae, Fitting(cfg.fit_cells, cfg.seed), progress)
    steps = len(tracers) + len(wanted) + 1
    sets = []
    for done, name in enumerate(tracers):
        progress(done, steps, f"test cells: {WORDS[name]}")
        sets.append(_whole(tracers[name], name, cfg))
    progress(len(tracers), steps, "what features mean")
    sets = _with_meaning(tracers, sets, cfg)
    types = []
    for done, label in enumerate(wanted, len(tracers) + 1):
        progress(done, steps, label)
        types.append(_in_type(tracers, label, cfg))
    progress(steps, steps, "")
    about = tracer.about({"rivals": to_dict(cfg)}, seed=cfg.seed)
    if sae is not None:
        about["sae"] = {
            "name": sae.name,
            "fingerprint": sae.fingerprint,
            "config": sae.meta.get("transcoder"),
        }
        about["sae"]["train"] = sae.meta.get("train")
    return Rivals(tuple(sets), tuple(_with_q(types)), about)


def _wanted(tracer: Tracer, labels: Sequence[str] | None, cfg: RivalConfig) -> list[str]:
    labels = as_names(labels)
    if labels:
        unknown = [label for label in labels if label not in tracer.table.types]
        if unknown:
            raise ScxError(
                f"{tracer.table.name} holds no cell of the type {unknown[0]!r}.",
                f"It holds: {', '.join(tracer.table.types)}.",
            )
        return labels
    sizes = {label: int((tracer.table.labels == label).sum()) for label in tracer.table.types}
    enough = [label for label, size in sizes.items() if size >= max(LEAST_CELLS, 2 * cfg.knocked)]
    return sorted(enough, key=lambda label: (-sizes[label], label))[: cfg.types]


def _whole(tracer: Tracer, name: str, cfg: RivalConfig) -> SetFigures:
    """How a set stands in for all MLPs on test cells."""
    coders = tracer.rep.transcoders
    rows = validation_rows(tracer.lm, tracer.transcoders, tracer.table, cfg.test_cells, cfg.seed).test
    found = validate(tracer.lm, coders, tracer.table, rows, per_layer=False)

    def with_interval(key: str) -> MeanInterval:
        return MeanInterval(float(getattr(found, key)), *map(float, found.intervals[key]))

    return SetFigures(
        name,
        0 if name == LINEAR else coders.n_features,
        found.n_cells,
        found.l0,
        found.fvu,
        with_interval("ce_recovered"),
        with_interval("kl"),
        with_interval("label_agreement"),
    )


def _with_meaning(
    tracers: Mapping[str, Tracer], sets: list[SetFigures], cfg: RivalConfig
) -> list[SetFigures]:
    """The share of live features that the atlas' protocol says are about something, of every set with
    features: judged in the same cells with the same thresholds, those of the transcoders."""
    if not cfg.atlas_cells:
        return sets
    own = tracers[TRANSCODERS]
    beside = {name: one.rep.transcoders for name, one in tracers.items() if name not in (TRANSCODERS, LINEAR)}
    atlas_cfg = AtlasConfig(cells=cfg.atlas_cells, baseline=False, random=0, seed=cfg.seed)
    atlas = make_atlas(own.lm, own.transcoders, own.table, cfg=atlas_cfg, beside=beside)
    verdicts = {TRANSCODERS: atlas} | dict(atlas.beside)
    out = []
    for one in sets:
        if one.name in verdicts:
            given = verdicts[one.name].features["verdict"].astype(str)
            live = int((given != DEAD).sum())
            told = int(given.isin(MEANINGFUL).sum())
            one = one._replace(meaningful=MeanInterval(told / max(1, live), *wilson(told, live)), n_live=live)
        out.append(one)
    return out


def _in_type(tracers: Mapping[str, Tracer], label: str, cfg: RivalConfig) -> TypeFigures:
    """Steps 1 to 4 for one type."""
    own = tracers[TRANSCODERS]
    answer = own.answer_for(label)
    plan = own.plan(answer)
    cells = split_cells(own, label, cfg.search_cells, cfg.unseen_cells, cfg.reference_cells, cfg.seed)
    search = SearchConfig(exchanges=cfg.exchanges)
    settings = SufficiencySettings(cfg.wanted, cfg.margin, cfg.gradient_cells, search, cfg.seed)
    shared = SharedCells(own, plan, cells, settings)
    knocked = cells.unseen[: cfg.knocked]
    measured = knock_out_all(own, knocked, plan)
    known = known_markers(label)
    sampling = one_group(len(knocked), cfg.seed, own.donors(knocked))
    agreed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    rows = []
    for name in (*tracers, GRADIENT):
        effects = _gene_effects(tracers.get(name, own), name, answer, np.append(knocked, cells.search))
        here, ranked = effects[: len(knocked)], effects[len(knocked) :]
        agreed[name] = tuple(  # type: ignore[assignment]
            np.array([_agreement(cell.genes, of, way) for cell, of in zip(measured, here, strict=True)])
            for way in ("gap", "text")
        )
        top = tuple(by_mean(ranked)[: cfg.genes])
        hits = sum(gene in known.genes for gene in top) if known else None
        one = Figures(
            name,
            shared.sufficient(tracers[name]) if name in tracers else None,
            mean_interval(agreed[name][0], sampling, CORRELATION),
            mean_interval(agreed[name][1], sampling, CORRELATION),
            top,
            hits,
            None if hits is None else wilson(hits, len(top)),
        )
        if name != TRANSCODERS:
            ahead_C = agreed[TRANSCODERS][0] - agreed[name][0]
            p = float(p_values(sampling, ahead_C[:, None], cfg.seed)[0])
            one = one._replace(ahead=mean_interval(ahead_C, sampling), p=p)
        rows.append(one)
    held = {gene for cell in own.encode(cells.search) for gene in cell.genes}
    return TypeFigures(
        label,
        answer,
        len(cells.search),
        len(cells.unseen),
        len(knocked),
        sampling.kind,
        float(shared.scales[1].empty_B.mean()),
        float(shared.scales[1].full_B.mean()),
        "nats" if plan.kind == "answer" else "logits",
        len(known.genes) if known else None,
        len(held & known.genes) / len(held) if known else None,
        tuple(rows),
        shared.faint,
    )


def _gene_effects(tracer: Tracer, name: str, answer: str, rows: np.ndarray) -> list[dict[str, float]]:
    """Frozen attribution of every gene in each cell, or gradient × input of the real model."""
    if name == GRADIENT:
        return gradient_times_input(tracer.lm, tracer.plan(answer), tracer.encode(rows))
    return [{one.gene: one.effect for one in tracer.gene_effects(int(row), answer)} for row in rows]


def _agreement(genes: Sequence[Any], effect_of: Mapping[str, float], way: str) -> float:
    """Rank correlation of effects with measured knock-outs over the genes of a sentence."""
    effect_G = np.array([effect_of[gene.gene] for gene in genes])
    return spearman(effect_G, np.array([getattr(gene, way) for gene in genes]))


def _with_q(types: Sequence[TypeFigures]) -> list[TypeFigures]:
    """q-values over every comparison that was made."""
    p = [one.p for held in types for one in held.sets if one.p is not None]
    q = iter(q_values(np.array(p)).tolist())
    return [
        held._replace(sets=tuple(one if one.p is None else one._replace(q=next(q)) for one in held.sets))
        for held in types
    ]
