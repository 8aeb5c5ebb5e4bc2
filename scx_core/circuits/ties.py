"""Does the order of tied genes decide which genes a circuit calls strong? The same cells, other tie seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from scx_core.circuits.tracer import Tracer
from scx_core.runs.progress import Progress, silent

SEEDS, TOPS = (0, 1, 2, 3, 4), (10, 20)


class TieStability(NamedTuple):
    """How alike the strongest genes are under other tie seeds.

    `jaccard`: of the so many strongest, (mean, least) over all pairs of seeds. `halves`: the same between the
    rankings of two random halves of the cells under one seed, (mean, least) over seeds: what cells alone
    decide. `genes`: the strongest ten of each seed.
    """

    jaccard: dict[int, tuple[float, float]]
    halves: dict[int, tuple[float, float]]
    genes: dict[int, tuple[str, ...]]
    n_cells: int


def tie_stability(
    tracer: Tracer,
    label: str,
    rows: Sequence[int] | np.ndarray,
    *,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    tops: Sequence[int] = TOPS,
    progress: Progress = silent,
) -> TieStability:
    """Mean gene effects (frozen attribution) of these cells under each tie seed, ranked by size and compared.

    Only the tie order changes: the cells, the model and the target stay. Raises ScxError when the model has
    no such answer.
    """
    rows = np.asarray(rows, dtype=np.int64)
    answer = answer or tracer.answer_for(label)
    rng = np.random.default_rng(0)
    strongest: dict[int, list[str]] = {}
    halves: dict[int, list[float]] = {top: [] for top in tops}
    for done, seed in enumerate(seeds, 1):
        effects = _effects(_with_ties(tracer, seed), rows, answer, against)
        strongest[seed] = _ranked(effects)
        half = rng.permutation(len(rows)) < len(rows) // 2
        parts = [
            [one for one, here in zip(effects, half, strict=True) if here == side] for side in (True, False)
        ]
        if min(map(len, parts)):
            first, second = map(_ranked, parts)
            for top in tops:
                halves[top].append(jaccard(first[:top], second[:top]))
        progress(done, len(seeds), "tie orders")
    pairs = list(combinations(seeds, 2))
    found = {top: [jaccard(strongest[a][:top], strongest[b][:top]) for a, b in pairs] for top in tops}
    return TieStability(
        {top: _mean_least(values) for top, values in found.items()},
        {top: _mean_least(values) for top, values in halves.items()},
        {seed: tuple(genes[:10]) for seed, genes in strongest.items()},
        len(rows),
    )


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """Shared over all, 1 for two empty sets."""
    both = set(first) | set(second)
    return len(set(first) & set(second)) / len(both) if both else 1.0


def _mean_least(values: Sequence[float]) -> tuple[float, float]:
    return (float(np.mean(values)), float(min(values))) if values else (1.0, 1.0)


def _with_ties(tracer: Tracer, seed: int) -> Tracer:
    """The tracer, with another order of ties and the same lead before the answer."""
    lm = replace(tracer.lm, wanted=replace(tracer.lm.sentence_config, tie_seed=seed))
    return replace(tracer, lm=lm)


def _effects(
    tracer: Tracer, rows: np.ndarray, answer: str, against: Sequence[str] | None
) -> list[dict[str, float]]:
    return [
        {gene.gene: gene.effect for gene in tracer.gene_effects(int(row), answer, against)} for row in rows
    ]


def _ranked(cells: Sequence[dict[str, float]]) -> list[str]:
    """Genes by |mean effect| over the cells, a cell without the gene counting as 0."""
    sums: dict[str, float] = {}
    for cell in cells:
        for gene, effect in cell.items():
            sums[gene] = sums.get(gene, 0.0) + effect
    return sorted(sums, key=lambda gene: (-abs(sums[gene]), gene))
