"""Knock-outs of many cells as a table of genes: the mean over the cells that hold a gene, with its interval.

A bootstrap-t draws cells (donors, where the consensus does), and takes the mean over those of them that hold
the gene; of two groups, the mean of the first less that of the second.
Legend: C cells, G genes, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.circuits.circuit import Measured
from scx_core.evidence.knockouts.measure import CellKnockouts
from scx_core.statistics.resampling import Sampling, held_intervals

MEASURES = ("text", "gap", "text_log_odds", "gap_log_odds")


class GeneOverCells(NamedTuple):
    """One gene: mean rank where present, and one interval a measure (None where it was not measured)."""

    gene: str
    n_cells: int
    rank: float
    text: Measured | None
    gap: Measured | None
    text_log_odds: Measured | None
    gap_log_odds: Measured | None


def held_means(value_CX: np.ndarray, sampling: Sampling) -> list[Measured | None]:
    """Mean and interval of each column over the cells in which it is not NaN; None where there is none."""
    mean_X, low_X, high_X = held_intervals(sampling, value_CX)
    n_X = (~np.isnan(value_CX)).sum(0)
    out: list[Measured | None] = []
    for mean, low, high, n in zip(
        mean_X.tolist(), low_X.tolist(), high_X.tolist(), n_X.tolist(), strict=True
    ):
        known = not np.isnan(low)
        found = Measured(mean, low if known else None, high if known else None, n)
        out.append(None if np.isnan(mean) else found)
    return out


def over_cells(found: Sequence[CellKnockouts], sampling: Sampling) -> list[GeneOverCells]:
    """The genes of many cells, largest mean knock-out first (by `gap` where it was measured, else `text`)."""
    names = sorted({gene.gene for cell in found for gene in cell.genes})
    column = {name: g for g, name in enumerate(names)}
    value_MCG = np.full((len(MEASURES), len(found), len(names)), np.nan)
    rank_CG = np.full((len(found), len(names)), np.nan)
    for c, cell in enumerate(found):
        for gene in cell.genes:
            g = column[gene.gene]
            rank_CG[c, g] = gene.rank
            for m, measure in enumerate(MEASURES):
                value = getattr(gene, measure)
                value_MCG[m, c, g] = np.nan if value is None else value
    parts = [held_means(value_CG, sampling) for value_CG in value_MCG]
    rows = [
        GeneOverCells(
            name,
            int((~np.isnan(rank_CG[:, g])).sum()),
            float(np.nanmean(rank_CG[:, g])),
            *(p[g] for p in parts),
        )
        for name, g in column.items()
    ]
    return sorted(rows, key=lambda row: (-(_leading(row) or 0.0), row.gene))


def _leading(row: GeneOverCells) -> float | None:
    first = row.gap or row.text
    return None if first is None else first.mean
