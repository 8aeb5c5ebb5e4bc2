"""Knock-outs of many cells as a table of genes (the mean over the cells that hold a gene and over all cells,
each with its interval), and a circuit whose genes carry them beside their frozen attribution.

A bootstrap-t draws cells (donors, where the consensus does), and takes the mean over those of them that hold
the gene; of two groups, the mean of the first less that of the second.
Legend: C cells, G genes, X columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import Circuit, GeneEffect, Tracer
from scx_core.circuits.circuit import LEAST_HOLDERS, MeasuredMean
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.edits import Editor
from scx_core.evidence.knockouts.estimates import BEST, estimated
from scx_core.evidence.knockouts.measured_effects import SINGLE_WAYS, CellKnockouts, Measurer
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import Sampling, held_intervals, one_group

MEASURES = ("text", "gap", "text_log_odds", "gap_log_odds")


class GeneOverCells(NamedTuple):
    """One gene: mean rank where present, and one interval a measure (None where it was not measured)."""

    gene: str
    n_cells: int
    rank: float
    text: MeasuredMean | None
    gap: MeasuredMean | None
    text_log_odds: MeasuredMean | None
    gap_log_odds: MeasuredMean | None


def held_means(value_CX: np.ndarray, sampling: Sampling) -> list[MeasuredMean | None]:
    """Mean and interval of each column over the cells in which it is not NaN; None where there is none."""
    mean_X, low_X, high_X = held_intervals(sampling, value_CX)
    n_X = (~np.isnan(value_CX)).sum(0)
    out: list[MeasuredMean | None] = []
    for mean, low, high, n in zip(*(x.tolist() for x in (mean_X, low_X, high_X, n_X)), strict=True):
        known = not np.isnan(low)
        found = MeasuredMean(mean, low if known else None, high if known else None, n)
        out.append(None if np.isnan(mean) else found)
    return out


def gene_means(value_CX: np.ndarray, sampling: Sampling) -> list[MeasuredMean | None]:
    """`held_means` of genes' columns, with the mean over all cells besides: a gene that a cell lacks (NaN) is
    one that it loses nothing without, 0."""
    over_all = held_means(np.nan_to_num(value_CX, nan=0.0), sampling)
    return [
        held and held._replace(over_all=every.mean, over_all_low=every.low, over_all_high=every.high)
        for held, every in zip(held_means(value_CX, sampling), over_all, strict=True)
        if every is not None
    ]


def over_cells(found: Sequence[CellKnockouts], sampling: Sampling) -> list[GeneOverCells]:
    """The genes of many cells, largest knock-out first (by `gap` where it was measured, else `text`; the mean
    over all these cells, 0 where a gene is absent), and last those that fewer than `LEAST_HOLDERS` hold."""
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
    parts = [gene_means(value_CG, sampling) for value_CG in value_MCG]
    rows = [
        GeneOverCells(
            name,
            int((~np.isnan(rank_CG[:, g])).sum()),
            float(np.nanmean(rank_CG[:, g])),
            *(p[g] for p in parts),
        )
        for name, g in column.items()
    ]

    def order(row: GeneOverCells) -> tuple[bool, float, str]:
        first = row.gap or row.text
        return (
            row.n_cells < min(LEAST_HOLDERS, len(found)),
            -(first.over_all or 0.0) if first else 0.0,
            row.gene,
        )

    return sorted(rows, key=order)


KNOCKOUTS, ESTIMATES = "knockouts", "estimates"
# Seconds a cell for each million parameters × 150 genes: both ways, on two cores of a usual computer.
_SECONDS = {"cpu": 1.2, "cuda": 0.15}


def rows_of(circuit: Circuit) -> list[int]:
    """The rows of the table that a circuit was traced on. Raises ScxError where it does not say."""
    if circuit.scope == "cell":
        row = circuit.provenance.get("cell", {}).get("row")
        rows = [] if row is None else [row]
    else:
        rows = list(circuit.provenance.get("cells") or []) if circuit.scope == "consensus" else []
    if not rows:
        raise ScxError(
            "Knock-outs are measured for the circuit of a cell or of a type.", "Trace one of the two sides."
        )
    return [int(row) for row in rows]


def plan_of(tracer: Tracer, circuit: Circuit) -> TargetPlan:
    """The plan of a circuit's target, made anew. Raises ScxError for a feature's."""
    target = circuit.target
    if target.kind == "feature":
        raise ScxError(
            "A knock-out reads the model's answer; a feature is none.", "Choose an answer as the target."
        )
    if target.kind == "token":
        label = circuit.provenance.get("cell_type") or tracer.predict(rows_of(circuit)[:1])[0]
        return tracer.plan(
            label, None, "token", max(target.coefficients, key=target.coefficients.__getitem__)
        )
    return tracer.plan(target.answer, list(target.against) or None, target.kind)


def seconds_for(tracer: Tracer, n_cells: int) -> float:
    """About how long the knock-outs of so many cells take, both ways."""
    lm = tracer.lm
    weights = sum(p.numel() for p in lm.model.parameters()) / 1e6
    each = _SECONDS["cpu" if lm.device.type == "cpu" else "cuda"]
    return each * weights * n_cells * (lm.sentence_config.n_genes / 150) ** 2


def with_knockouts(
    tracer: Tracer,
    circuit: Circuit,
    *,
    plan: TargetPlan | None = None,
    ways: Sequence[str] = SINGLE_WAYS,
    estimate: bool = False,
    progress: Progress = silent,
) -> Circuit:
    """The circuit with measured knock-outs of all genes of its cells (and, if wanted, the estimated ones).

    `ways`: text, gap, both or none. Raises ScxError for a difference and for a feature as target.
    """
    rows, plan = rows_of(circuit), plan or plan_of(tracer, circuit)
    measurer = Measurer(tracer, plan, Editor(tracer))
    found: list[CellKnockouts] = []
    guessed: list[dict[str, float]] = []
    for done, row in enumerate(rows):
        if ways:
            found.append(measurer.singles(row, ways=ways))
        if estimate:
            sentence = measurer.editor.sentence(row)
            values = estimated(measurer, sentence).tolist()
            guessed.append(dict(zip(sentence.cell.genes, values, strict=True)))
        progress(done + 1, len(rows), f"cell {done + 1} of {len(rows)}")
    seed = circuit.provenance.get("config", {}).get("consensus", {}).get("seed", 0)
    sampling = one_group(len(rows), seed, tracer.donors(rows))
    genes = measured_genes(circuit.genes, found, sampling) if found else circuit.genes
    genes = _estimated(genes, guessed, sampling) if guessed else genes
    about = {KNOCKOUTS: {"ways": list(ways), "cells": rows}} if found else {}
    about |= {ESTIMATES: {"attribution": BEST, "cells": rows}} if guessed else {}
    return circuit._replace(genes=tuple(genes), provenance=circuit.provenance | about)


def measured_genes(
    genes: Sequence[GeneEffect], found: Sequence[CellKnockouts], sampling: Sampling
) -> list[GeneEffect]:
    """The genes with what these cells' knock-outs measured of them."""
    by_name = {
        row.gene: {name: getattr(row, name) for name in MEASURES} for row in over_cells(found, sampling)
    }
    return [gene._replace(**by_name.get(gene.gene, {})) for gene in genes]


def _estimated(
    genes: Sequence[GeneEffect], guessed: Sequence[dict[str, float]], sampling: Sampling
) -> list[GeneEffect]:
    value_CG = np.array([[cell.get(gene.gene, np.nan) for gene in genes] for cell in guessed])
    means = gene_means(value_CG, sampling)
    return [gene._replace(estimate=mean) for gene, mean in zip(genes, means, strict=True)]
