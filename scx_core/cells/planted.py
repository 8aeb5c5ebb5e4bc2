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
from collections.abc import Callable, Sequence
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
    called: tuple[str, str] | None = None

    @property
    def labels(self) -> tuple[str, str]:
        """(label when on, label when off): `called`, else the rule's name with on and off."""
        return self.called or (f"{self.name} {ON}", f"{self.name} {OFF}")

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


def _drawn_from(rule: Rule, on: bool, near: int) -> list[tuple[bool, ...]]:
    """The rows of the truth table with this label, those that one gene would change `near` times."""
    table, rows = rule.truth_table, list[tuple[bool, ...]]()
    for row, active in table.items():
        others = [tuple(there != (i == j) for j, there in enumerate(row)) for i in range(len(row))]
        if active == on:
            rows += [row] * (near if any(table[other] != on for other in others) else 1)
    return rows


def planted_cells(
    n_cells: int = N_CELLS,
    seed: int = SEED,
    rules: Sequence[Rule] = RULES,
    noise: Sequence[str] = NOISE_GENES,
    near: int = 1,
    share: Sequence[float] | None = None,
) -> Any:
    """An AnnData of simulated counts with `obs.label` and `obs.rule`. The same arguments give the same cells.

    A cell draws its rule, its label (on or off, half each) and, of the rows of the truth table with that
    label, one; rows that one gene would change are drawn `near` times as often as the others. `share`: of
    the cells that each rule has (default: equal). Every other
    gene but the markers is there in half of the cells. Which genes rank high is chance: a gene that is there
    has a count that is uniform between 1 and 400.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    rng = np.random.default_rng(seed)
    own = [gene for rule in rules for gene in (*rule.genes, rule.marker, rule.passenger)]
    genes = list(dict.fromkeys([*own, *noise]))  # a gene of two rules once
    column = {gene: k for k, gene in enumerate(genes)}
    there_CG = rng.random((n_cells, len(genes))) < 0.5
    there_CG[:, [column[rule.marker] for rule in rules]] = False
    draw_C3 = rng.random((n_cells, 4))
    rules_C = (draw_C3[:, 0] * len(rules)).astype(int)
    if share is not None:
        rules_C = np.searchsorted(np.cumsum(share)[:-1] / sum(share), draw_C3[:, 0], side="right")
    rows_of = {(k, on): _drawn_from(rule, on, near) for k, rule in enumerate(rules) for on in (False, True)}
    labels = []
    for cell, (k, draw_4) in enumerate(zip(rules_C.tolist(), draw_C3, strict=True)):
        rule, on = rules[k], bool(draw_4[1] < 0.5)
        rows = rows_of[k, on]
        row = rows[int(draw_4[2] * len(rows))]
        there_CG[cell, [column[gene] for gene in rule.genes]] = row
        there_CG[cell, column[rule.marker]] = True
        there_CG[cell, column[rule.passenger]] = on == bool(draw_4[3] < PASSENGER)
        labels.append(rule.labels[0] if on else rule.labels[1])
    counts_CG = np.floor(1 + 400 * rng.random(there_CG.shape)) * there_CG
    names = [f"cell{cell:05d}" for cell in range(n_cells)]
    obs = pd.DataFrame({"label": labels, "rule": [rules[k].name for k in rules_C]}, index=names)
    cells = AnnData(sparse.csr_matrix(counts_CG.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes))
    cells.uns["organism"] = "simulated"
    return cells


def planted_store() -> Store:
    """The simulated cells as a source, made anew at each opening (a fraction of a second)."""
    return from_anndata(planted_cells(), "planted (simulated)", None, "simulated cells with known rules")
