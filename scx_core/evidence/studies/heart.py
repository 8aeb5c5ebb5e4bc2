"""The endothelial circuit in simulated heart cells: which genes it names against all other types and against
pericytes, what taking three of them out does, and how one of them depends on depth and on the sentence.

The seed paper's circuit names VWF, SPARCL1 and PTPRB. In the atlas' profiles SPARCL1 is as high in pericytes
and smooth muscle as in endothelium, VWF and PTPRB are not: so SPARCL1 should fall where the answer is held
against pericytes. All of it is about a model of *simulated* cells; the real pools stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells import CellTable, open_cells
from scx_core.cells.markers import known_markers
from scx_core.cells.simulated import SimulationConfig, simulated_cells
from scx_core.circuits import Tracer
from scx_core.evidence.knockouts.measured_effects import Measurer
from scx_core.evidence.rankings.rankers import WORDS, Halves, Rankers
from scx_core.evidence.studies.gene_ranks import GenePlaces, gene_places
from scx_core.evidence.studies.matched_knockouts import MatchedKnockout, matched_knockouts
from scx_core.evidence.studies.pools import Rater, rate_rows
from scx_core.language import with_answers
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.intervals import wilson
from scx_core.statistics.resampling import MeanInterval, mean_interval, one_group
from scx_core.validation.held_out import draw_rows

TYPE, OTHER = "Endothelial", "Pericytes"
GENES = ("VWF", "SPARCL1", "PTPRB")
SWEPT = "PTPRB"
AGAINST_ALL, AGAINST_OTHER = "all other types", "pericytes"
TOP = 12
NAMED = 8  # fresh cells of each type that the model names
# The names of the real pools' types, and the answers that count as right for them.
POOLS = {
    "cardiomyocyte": ("Atrial Cardiomyocyte", "Ventricular Cardiomyocyte"),
    "endothelial cell": ("Endothelial",),
    "fibroblast": ("Fibroblast",),
}
DEPTHS = (1000, 2000, 4000, 8000, 16000)
SENTENCES = (50, 100, 150, 200)


@dataclass(frozen=True)
class HeartConfig:
    """From how many fresh simulated cells the heart model's circuits are made and tested."""

    traced: int = option(30, "Fresh simulated endothelial cells that are traced", minimum=4)
    knocked: int = option(12, "Cells that hold a gene in which it is taken out, at most", minimum=2)
    matched: int = option(3, "Genes of about its rank that are taken out beside it, a cell", minimum=1)
    swept: int = option(10, "Simulated endothelial cells of each depth", minimum=4)
    seed: int = option(0, "Seed of draws and bootstraps", minimum=0)


class ContrastRanking(NamedTuple):
    """One ranking of one contrast: its strongest genes, the known markers among them, and the place of each
    named gene (None: not among its genes with a positive score)."""

    name: str
    words: str
    top: tuple[str, ...]
    markers: tuple[str, ...]
    places: dict[str, int | None]


class Contrast(NamedTuple):
    """The consensus against all other types or against one, and the rankings that could have said as much."""

    name: str
    against: tuple[str, ...] | None
    places: GenePlaces
    rankings: tuple[ContrastRanking, ...]


class SweepPoint(NamedTuple):
    """One depth, or one number of genes a sentence: in how many of `n` cells the gene stands, its mean rank
    there, its frozen attribution and its knock-out (gap) over the cells that hold it (target's unit)."""

    what: str
    value: int
    n: int
    held: int
    low: float
    high: float
    rank: float
    effect: MeanInterval | None
    knockout: MeanInterval | None


class HeartStudy(NamedTuple):
    """All of it; `accuracy`: (right, n) of fresh simulated cells of all types. `pools` is empty without them;
    `real`: the consensus of the real endothelial pools."""

    accuracy: tuple[int, int]
    contrasts: tuple[Contrast, ...]
    knockouts: tuple[MatchedKnockout, ...]
    sweep: tuple[SweepPoint, ...]
    pools: tuple[Rater, ...]
    real: tuple[tuple[str, GenePlaces], ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, with intervals and n."""
        right, n = self.accuracy
        low, high = wilson(right, n)
        return {
            "accuracy": {"right": right, "n": n, "share": right / n, "low": low, "high": high},
            "contrasts": [
                {
                    "name": one.name,
                    "against": one.against,
                    "consensus": one.places.to_json(always=GENES),
                    "rankings": [ranking._asdict() for ranking in one.rankings],
                }
                for one in self.contrasts
            ],
            "knockouts": [one.to_json() for one in self.knockouts],
            "sweep": [
                one._asdict()
                | {
                    "effect": one.effect and one.effect._asdict(),
                    "knockout": one.knockout and one.knockout._asdict(),
                }
                for one in self.sweep
            ],
            "pools": [one.to_json() for one in self.pools],
            "real": {name: places.to_json(always=GENES) for name, places in self.real},
            "provenance": self.provenance,
        }


def heart_study(
    tracer: Tracer,
    profiles: tuple[CellTable, np.ndarray],
    simulation: SimulationConfig,
    cfg: HeartConfig | None = None,
    *,
    train: tuple[CellTable, np.ndarray] | None = None,
    pools: CellTable | None = None,
    progress: Progress = silent,
) -> HeartStudy:
    """`tracer`: the heart model, its transcoders and fresh simulated cells that it was not trained on.
    `profiles`: the mean profiles and the rows that were simulated. `train`: the simulated cells that the
    model was trained on, and its rows: for `pools` (real rows, same genes) rivals are fitted on them.
    """
    cfg = cfg or HeartConfig()
    table = tracer.table
    rows_of = [draw_rows(np.flatnonzero(table.labels == label), NAMED, cfg.seed) for label in table.types]
    everyone = np.concatenate(rows_of)
    progress(0, 5, "answers")
    answered = tracer.predict(everyone)
    right = sum(given == own for given, own in zip(answered, table.answers[everyone], strict=True))
    rows = np.flatnonzero(table.labels == TYPE)
    answer = tracer.answer_for(TYPE)
    against = {AGAINST_ALL: None, AGAINST_OTHER: (tracer.answer_for(OTHER),)}
    progress(1, 5, "rankings")
    contrasts = tuple(_contrast(tracer, rows, answer, name, other, cfg) for name, other in against.items())
    progress(2, 5, "knock-outs")
    knocked = matched_knockouts(
        tracer, rows, answer, dict(against), GENES, most=cfg.knocked, draws=cfg.matched, seed=cfg.seed
    )
    progress(3, 5, f"{SWEPT} over depth and genes a sentence")
    sweep = _sweep(tracer, profiles, simulation, answer, rows, cfg)
    progress(4, 5, "real pools")
    rated: tuple[Rater, ...] = ()
    real: tuple[tuple[str, GenePlaces], ...] = ()
    if pools is not None and train is not None:
        on_pools = replace(tracer, table=with_answers(tracer.lm, pools), _scores={})
        rated = rate_rows(on_pools, *train, POOLS, profiles)
        mine = np.flatnonzero(pools.labels.astype(str) == "endothelial cell")
        real = tuple(
            (name, gene_places(on_pools, mine, answer, other, cfg.seed)) for name, other in against.items()
        )
    about = tracer.about({"heart": to_dict(cfg), "simulation": to_dict(simulation)}, seed=cfg.seed)
    progress(5, 5, "")
    return HeartStudy((right, len(everyone)), contrasts, tuple(knocked), sweep, rated, real, about)


def _contrast(
    tracer: Tracer,
    rows: np.ndarray,
    answer: str,
    name: str,
    against: Sequence[str] | None,
    cfg: HeartConfig,
) -> Contrast:
    """The consensus of one contrast beside all other rankings, from the same cells."""
    table = tracer.table
    types = [label for label in table.types if against is None or label in (TYPE, OTHER)]
    halves = Halves({label: np.flatnonzero(table.labels == label) for label in types})
    rankers = Rankers(tracer, halves, cfg.traced, cfg.seed, against)
    traced = rankers.traced_rows(TYPE)
    places = gene_places(tracer, traced, answer, against, cfg.seed)
    known = known_markers(TYPE)
    rankings = []
    for key, genes in rankers.all(TYPE, answer).items():
        markers = tuple(gene for gene in genes[:TOP] if known and gene in known.genes)
        at = {gene: genes.index(gene) + 1 if gene in genes else None for gene in GENES}
        rankings.append(ContrastRanking(key, WORDS[key], tuple(genes[:TOP]), markers, at))
    return Contrast(name, None if against is None else tuple(against), places, tuple(rankings))


def _sweep(
    tracer: Tracer,
    profiles: tuple[CellTable, np.ndarray],
    simulation: SimulationConfig,
    answer: str,
    rows: np.ndarray,
    cfg: HeartConfig,
) -> tuple[SweepPoint, ...]:
    """The swept gene in simulated cells of each depth, and in the fresh cells with fewer genes a sentence."""
    table, profile_rows = profiles
    both = profile_rows[np.isin(table.labels[profile_rows], (TYPE, OTHER))]  # a table needs two types
    found = []
    for depth in DEPTHS:
        drawn = replace(
            simulation, cells=cfg.swept, depth=float(depth), spread=0.0, seed=simulation.seed + depth
        )
        cells = with_answers(tracer.lm, open_cells(simulated_cells(table, both, drawn, profile_rows)))
        one = replace(tracer, table=cells, _scores={})
        found.append(_point(one, np.flatnonzero(cells.labels == TYPE), answer, "counts a cell", depth, cfg))
    for n_genes in SENTENCES:
        lm = replace(tracer.lm, wanted=replace(tracer.lm.sentence_config, n_genes=n_genes))
        one = replace(tracer, lm=lm, _scores={})
        found.append(_point(one, rows[: cfg.swept], answer, "genes a sentence", n_genes, cfg))
    return tuple(found)


def _point(
    tracer: Tracer, rows: np.ndarray, answer: str, what: str, value: int, cfg: HeartConfig
) -> SweepPoint:
    measurer = Measurer(tracer, tracer.plan(answer))
    ranks, effects, lost = [], [], []
    for row, cell in zip(rows.tolist(), tracer.encode(rows), strict=True):
        if SWEPT not in cell.genes:
            continue
        effect = {gene.gene: gene.effect for gene in tracer.gene_effects(row, answer)}
        ranks.append(cell.genes.index(SWEPT) + 1)
        effects.append(effect[SWEPT])
        lost.append(measurer.singles(row, [SWEPT], ["gap"]).genes[0].gap)
    held = len(ranks)
    sampling = one_group(held, cfg.seed) if held >= 2 else None
    spans = [mean_interval(np.array(one), sampling) if sampling else None for one in (effects, lost)]
    rank = float(np.mean(ranks)) if ranks else float("nan")
    return SweepPoint(what, value, len(rows), held, *wilson(held, len(rows)), rank, *spans)
