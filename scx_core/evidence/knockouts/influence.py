"""How much a gene matters to an answer where genes can stand for each other: knock-outs alone and in pairs.

One gene out says nothing of a gene whose work another does too (A or B, both there). So every gene of a cell
is taken out alone, and once more beside every other gene that is out already, and the target is measured in
the real model each time: with n genes 1 + n + n (n − 1) / 2 readings a cell. A gene's influence is the root
of the mean square of what its removal changes, over its n contexts and over the cells, 0 where a cell does
not hold it. Squares let the few contexts in which a gene decides outweigh the many in which it moves the
target a little. Nothing is assumed about a rule, and signs are left out: a gene that speaks against an answer
decides it as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.evidence.knockouts.measured_effects import Measurer


class Influences(NamedTuple):
    """Genes → influence in the unit of the target, strongest first: of single knock-outs, `alone`, and over
    all contexts, `joint`."""

    alone: dict[str, float]
    joint: dict[str, float]


def gene_influences(measurer: Measurer, rows: Sequence[int] | np.ndarray) -> Influences:
    """The influence of every gene that these cells' sentences hold.

    The readings grow with the square of the genes of a sentence: for sentences of 20 genes 211 a cell, of 100
    genes 5,051. Raises ScxError for a target that is no answer.
    """
    alone, joint = dict[str, float](), dict[str, float]()
    rows = np.asarray(rows).tolist()
    for row in rows:
        for gene, change_R in changes_in_cell(measurer, row).items():
            alone[gene] = alone.get(gene, 0.0) + float(change_R[0] ** 2) / len(rows)
            joint[gene] = joint.get(gene, 0.0) + float(np.mean(change_R**2)) / len(rows)
    return Influences(_rooted(alone), _rooted(joint))


def changes_in_cell(measurer: Measurer, row: int) -> dict[str, np.ndarray]:
    """What the removal of each gene of a cell changes the target by: first alone, then beside each other gene
    that is out already. At least one gene stays: two genes have no pair, and one alone is not measured."""
    genes = measurer.editor.sentence(row).cell.genes
    if len(genes) < 2:
        return {}
    pairs = list(itertools.combinations(genes, 2)) if len(genes) > 2 else []
    value_R = measurer.together(row, [*((gene,) for gene in genes), *pairs])[0].target
    without = dict(zip(genes, value_R[1 : 1 + len(genes)].tolist(), strict=True))
    found = {gene: [float(value_R[0]) - value] for gene, value in without.items()}
    for (a, b), value in zip(pairs, value_R[1 + len(genes) :].tolist(), strict=True):
        found[a].append(without[b] - value)
        found[b].append(without[a] - value)
    return {gene: np.array(changes) for gene, changes in found.items()}


def _rooted(square: dict[str, float]) -> dict[str, float]:
    return {gene: float(np.sqrt(square[gene])) for gene in sorted(square, key=lambda g: (-square[g], g))}
