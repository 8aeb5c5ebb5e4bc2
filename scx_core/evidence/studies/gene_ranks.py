"""Where single genes stand among all genes of a type's consensus, with the interval of their place.

A gene's place is 1 + the number of genes with a larger mean effect over the cells (0 in a cell whose sentence
does not hold it). Its interval is that of the places in 2,000 bootstraps over cells; over donors, too few to
be drawn from, it ends where the gene stands with its effect at the ends of Student's interval, the others
at their means.
Legend: C cells, G genes, B bootstraps, U units that are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Tracer
from scx_core.statistics.resampling import MeanInterval, Sampling, one_group


class GenePlace(NamedTuple):
    """One gene of a consensus: mean effect over all cells (unit of the target), its place and the interval of
    that place, and in what share of the sentences it stands at which mean rank (nan: in none)."""

    gene: str
    place: int
    place_low: int
    place_high: int
    effect: MeanInterval
    held: float
    rank: float


class GenePlaces(NamedTuple):
    """All genes of one consensus, the strongest first; `n` cells, intervals over `units`."""

    genes: tuple[GenePlace, ...]
    n: int
    units: str

    def of(self, gene: str) -> GenePlace | None:
        """The gene's line, None where no sentence holds it."""
        return next((one for one in self.genes if one.gene == gene), None)

    def top(self, n: int) -> list[str]:
        """The n strongest genes with a positive effect."""
        return [one.gene for one in self.genes[:n] if one.effect.mean > 0]

    def to_json(self, most: int = 40, always: Sequence[str] = ()) -> dict[str, Any]:
        """Plain numbers of the `most` strongest genes, and of those named."""
        shown = [one for k, one in enumerate(self.genes) if k < most or one.gene in always]
        rows = [one._asdict() | {"effect": one.effect._asdict()} for one in shown]
        return {"genes": rows, "n": self.n, "units": self.units, "n_genes": len(self.genes)}


def effects_in_cells(
    tracer: Tracer, rows: Sequence[int] | np.ndarray, answer: str, against: Sequence[str] | None = None
) -> list[dict[str, tuple[float, int]]]:
    """Of each cell, its genes' frozen attributions and ranks in the sentence."""
    return [
        {gene.gene: (gene.effect, int(gene.rank)) for gene in tracer.gene_effects(int(row), answer, against)}
        for row in np.asarray(rows).tolist()
    ]


def places_of(cells: Sequence[Mapping[str, tuple[float, int]]], sampling: Sampling) -> GenePlaces:
    """The genes of these cells by mean effect, with intervals of effect and place."""
    names = sorted({gene for cell in cells for gene in cell})
    column = {gene: g for g, gene in enumerate(names)}
    effect_CG = np.zeros((len(cells), len(names)))
    rank_CG = np.full((len(cells), len(names)), np.nan)
    for c, cell in enumerate(cells):
        for gene, (effect, rank) in cell.items():
            effect_CG[c, column[gene]], rank_CG[c, column[gene]] = effect, rank
    mean_G, found = effect_CG.mean(0), sampling.of(effect_CG)
    held_G = (~np.isnan(rank_CG)).mean(0)
    place_G = _places(mean_G, mean_G)
    if sampling.kind == "donors":
        low_G, high_G = _places(found.high, mean_G), _places(found.low, mean_G)
    else:
        low_G, high_G = _place_intervals(effect_CG, sampling)
    order = sorted(range(len(names)), key=lambda g: (-mean_G[g], names[g]))
    genes = tuple(
        GenePlace(
            names[g],
            int(place_G[g]),
            int(low_G[g]),
            int(high_G[g]),
            MeanInterval(float(mean_G[g]), float(found.low[g]), float(found.high[g])),
            float(held_G[g]),
            float(np.nanmean(rank_CG[:, g])),
        )
        for g in order
    )
    return GenePlaces(genes, len(cells), sampling.kind)


def _places(effect_G: np.ndarray, mean_G: np.ndarray) -> np.ndarray:
    """Where each gene stands with this effect, all others at their means, [G]."""
    others_GG = (mean_G[None] > effect_G[:, None]) & ~np.eye(len(mean_G), dtype=bool)
    return 1 + others_GG.sum(1)


def _place_intervals(effect_CG: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """2.5% and 97.5% of each gene's place over the bootstraps, [G] each."""
    sum_GUX, n_GU = sampling.sums(effect_CG)
    count_BU = sampling.count_BU.astype(np.float64)
    mean_BG = (count_BU @ sum_GUX[0]) / (count_BU @ n_GU[0])[:, None]
    place_BG = mean_BG.shape[1] - np.argsort(np.argsort(mean_BG, axis=1), axis=1)
    low_G, high_G = np.quantile(place_BG, [0.025, 0.975], axis=0)
    return np.floor(low_G), np.ceil(high_G)


def gene_places(
    tracer: Tracer,
    rows: Sequence[int] | np.ndarray,
    answer: str,
    against: Sequence[str] | None = None,
    seed: int = 0,
) -> GenePlaces:
    """`places_of` the frozen attributions of these cells for this answer (against all others, or some)."""
    sampling = one_group(len(rows), seed, tracer.donors(rows))
    return places_of(effects_in_cells(tracer, rows, answer, against), sampling)
