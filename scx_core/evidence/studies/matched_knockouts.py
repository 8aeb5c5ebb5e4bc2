"""Single genes taken out of the cells that hold them, beside genes that stand about where they stand.

In each cell whose sentence holds the gene, a few genes of the nearest ranks are drawn; both are taken out one
at a time, and the real model answers. The difference is paired: the gene's knock-out less the mean of the
matched ones in the same cell. p: sign flips; q: Benjamini-Hochberg over all that is tested together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Tracer
from scx_core.evidence.knockouts.measured_effects import SINGLE_WAYS, Measurer
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.resampling import MeanInterval, mean_interval, one_group


class MatchedKnockout(NamedTuple):
    """One gene, one contrast, one way (text, gap). Means over the `n` cells that hold it, of `looked_at`, in
    the unit of the target: a positive one means that the gene spoke for the answer. `ahead`: the gene less
    the matched genes. Means, p and q are None with fewer than two cells."""

    gene: str
    contrast: str
    way: str
    n: int
    looked_at: int
    rank: float
    lost: MeanInterval | None
    matched: MeanInterval | None
    ahead: MeanInterval | None
    p: float | None = None
    q: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        means = {"lost": self.lost, "matched": self.matched, "ahead": self.ahead}
        return self._asdict() | {key: one and one._asdict() for key, one in means.items()}


def matched_knockouts(
    tracer: Tracer,
    rows: Sequence[int] | np.ndarray,
    answer: str,
    contrasts: dict[str, Sequence[str] | None],
    genes: Sequence[str],
    *,
    most: int = 40,
    draws: int = 8,
    seed: int = 0,
) -> list[MatchedKnockout]:
    """Each gene in at most `most` of these cells that hold it, for each contrast (name → answers to hold
    against, None: all others), in both ways, beside `draws` genes of about its rank."""
    found: list[MatchedKnockout] = []
    for name, against in contrasts.items():
        measurer = Measurer(tracer, tracer.plan(answer, against))
        for gene in genes:
            found += _of_gene(measurer, np.asarray(rows), gene, name, genes, most, draws, seed)
    tested = [one.p for one in found if one.p is not None]
    q = iter(q_values(np.array(tested)).tolist() if tested else [])
    return [one if one.p is None else one._replace(q=next(q)) for one in found]


def _of_gene(
    measurer: Measurer,
    rows: np.ndarray,
    gene: str,
    contrast: str,
    named: Sequence[str],
    most: int,
    draws: int,
    seed: int,
) -> list[MatchedKnockout]:
    """One gene of one contrast, both ways."""
    cells = measurer.tracer.encode(rows)
    holding = [(int(row), cell) for row, cell in zip(rows, cells, strict=True) if gene in cell.genes]
    own: dict[str, list[float]] = {way: [] for way in SINGLE_WAYS}
    other: dict[str, list[float]] = {way: [] for way in SINGLE_WAYS}
    ranks, used = [], []
    for row, cell in holding[:most]:
        place = {span.gene: float(span.rank) for span in cell.spans}
        free = {name: at for name, at in place.items() if name == gene or name not in named}
        matched = rank_matched(free, [gene] * draws, np.random.default_rng([seed, row]))
        lost = {one.gene: one for one in measurer.singles(row, [gene, *matched]).genes}
        for way in SINGLE_WAYS:
            own[way].append(getattr(lost[gene], way))
            other[way].append(float(np.mean([getattr(lost[name], way) for name in matched])))
        ranks.append(place[gene])
        used.append(row)
    out = []
    for way in SINGLE_WAYS:
        rank = float(np.mean(ranks)) if ranks else float("nan")
        line = MatchedKnockout(gene, contrast, way, len(used), len(rows), rank, None, None, None)
        if len(used) >= 2:
            sampling = one_group(len(used), seed, measurer.tracer.donors(used))
            apart_C = np.array(own[way]) - np.array(other[way])
            line = line._replace(
                lost=mean_interval(np.array(own[way]), sampling),
                matched=mean_interval(np.array(other[way]), sampling),
                ahead=mean_interval(apart_C, sampling),
                p=float(p_values(sampling, apart_C[:, None], seed)[0]),
            )
        out.append(line)
    return out
