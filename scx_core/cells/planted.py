"""Simulated cells whose labels follow known rules: the data set on which a circuit's truth is known.

Every cell belongs to one of four rules, which a gene of its own marks, and is on or off by that rule's truth
table over two or three genes that are there or not. What a gene means depends on the rule of its cell and on
the rule's other genes, so no sum over single genes gives the labels. Beside them stand distractors: rule
genes of the other rules, noise genes, and for each rule a *passenger* that goes with the label in most cells
and decides nothing, which a test for differential expression cannot tell from a rule gene.

Nothing here is biology, and the cells say so: their organism is "simulated".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells.formats.raw_cells import Store, from_anndata

PLANTED = "planted"
N_CELLS, SEED = 5000, 0
ON, OFF = "on", "off"
NOISE_GENES = tuple(f"NOISE{letter}" for letter in "ABCDEFGHIJKLMNOP")
# Share of a rule's cells in which its passenger agrees with the label.
PASSENGER = 0.8


class Rule(NamedTuple):
    """A label's law: `active` says for the presence of `genes` (in order) whether a cell is on.

    `marker` is in all cells of the rule and in no others; `passenger` goes with the label and decides
    nothing.
    """

    name: str
    words: str
    genes: tuple[str, ...]
    marker: str
    passenger: str
    active: Callable[..., bool]

    @property
    def labels(self) -> tuple[str, str]:
        """(label when on, label when off)."""
        return f"{self.name} {ON}", f"{self.name} {OFF}"

    @property
    def truth_table(self) -> dict[tuple[bool, ...], bool]:
        """Presence of each gene → on."""
        return {
            row: bool(self.active(*row)) for row in itertools.product((False, True), repeat=len(self.genes))
        }

    def label(self, present: set[str]) -> str:
        """The label of a cell of this rule that expresses `present`."""
        on = self.active(*(gene in present for gene in self.genes))
        return self.labels[0] if on else self.labels[1]


def _rule(name: str, words: str, n_genes: int, active: Callable[..., bool]) -> Rule:
    stem = name.upper()
    genes = tuple(f"{stem}{letter}" for letter in "ABC"[:n_genes])
    return Rule(name, words, genes, f"{stem}M", f"{stem}P", active)


RULES: tuple[Rule, ...] = (
    _rule("both", "A and B", 2, lambda a, b: a and b),
    _rule("either", "A or B", 2, lambda a, b: a or b),
    _rule("unless", "A unless B", 2, lambda a, b: a and not b),
    _rule("twoof", "two of A, B, C", 3, lambda a, b, c: a + b + c >= 2),
)


def rule_of(label: str) -> Rule:
    """The rule that a label of the planted cells belongs to. Raises KeyError for any other label."""
    return {name: rule for rule in RULES for name in rule.labels}[label]


def planted_cells(n_cells: int = N_CELLS, seed: int = SEED) -> Any:
    """An AnnData of simulated counts with `obs.label` and `obs.rule`. The same arguments give the same cells.

    A cell draws its rule, its label (on or off, half each) and, of the rows of the truth table with that
    label, one. Every other gene but the markers is there in half of the cells. Which genes rank high is
    chance: a gene that is there has a count that is uniform between 1 and 400.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    rng = np.random.default_rng(seed)
    own = [gene for rule in RULES for gene in (*rule.genes, rule.marker, rule.passenger)]
    genes = [*own, *NOISE_GENES]
    column = {gene: k for k, gene in enumerate(genes)}
    there_CG = rng.random((n_cells, len(genes))) < 0.5
    there_CG[:, [column[rule.marker] for rule in RULES]] = False
    draw_C3 = rng.random((n_cells, 4))
    rules_C = (draw_C3[:, 0] * len(RULES)).astype(int)
    labels = []
    for cell, (k, draw_4) in enumerate(zip(rules_C.tolist(), draw_C3, strict=True)):
        rule, on = RULES[k], bool(draw_4[1] < 0.5)
        rows = [row for row, active in rule.truth_table.items() if active == on]
        row = rows[int(draw_4[2] * len(rows))]
        there_CG[cell, [column[gene] for gene in rule.genes]] = row
        there_CG[cell, column[rule.marker]] = True
        there_CG[cell, column[rule.passenger]] = on == bool(draw_4[3] < PASSENGER)
        labels.append(rule.labels[0] if on else rule.labels[1])
    counts_CG = np.floor(1 + 400 * rng.random(there_CG.shape)) * there_CG
    names = [f"cell{cell:05d}" for cell in range(n_cells)]
    obs = pd.DataFrame({"label": labels, "rule": [RULES[k].name for k in rules_C]}, index=names)
    cells = AnnData(sparse.csr_matrix(counts_CG.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes))
    cells.uns["organism"] = "simulated"
    return cells


def planted_store() -> Store:
    """The simulated cells as a source, made anew at each opening (a fraction of a second)."""
    return from_anndata(planted_cells(), "planted (simulated)", None, "simulated cells with known rules")
