"""The simulated cells follow their rules, and only the rules' genes decide."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.cells import PLANTED, RULES, open_cells, planted_cells, rule_of


@pytest.fixture(scope="module")
def table():
    return open_cells(PLANTED)


@pytest.fixture(scope="module")
def present(table):
    """Which genes each cell expresses, bool [C, G], and each gene's column."""
    there_CG = table.rows(np.arange(table.n_cells)).toarray() > 0
    return there_CG, {str(gene): k for k, gene in enumerate(table.symbols)}


def test_every_label_is_what_the_truth_table_says(table, present):
    there_CG, column = present
    for label, there_G in zip(table.labels, there_CG, strict=True):
        rule = rule_of(label)
        row = tuple(bool(there_G[column[gene]]) for gene in rule.genes)
        assert label == rule.labels[0 if rule.truth_table[row] else 1]
        assert rule.label({gene for gene, k in column.items() if there_G[k]}) == label


def test_every_row_of_every_truth_table_occurs_often(table, present):
    there_CG, column = present
    for rule in RULES:
        mine = np.isin(table.labels, rule.labels)
        rows = there_CG[np.ix_(mine, [column[gene] for gene in rule.genes])]
        _, counts = np.unique(rows, axis=0, return_counts=True)
        assert len(counts) == 2 ** len(rule.genes)
        assert counts.min() >= 50


def test_only_the_passenger_and_the_rules_genes_go_with_the_label(table, present):
    there_CG, column = present
    for rule in RULES:
        on, off = (there_CG[table.labels == label].mean(0) for label in rule.labels)
        apart = {gene: abs(on[k] - off[k]) for gene, k in column.items()}
        assert apart.pop(rule.passenger) == pytest.approx(0.6, abs=0.1)
        for gene in rule.genes:
            apart.pop(gene)
        assert max(apart.values()) < 0.15  # some 500 cells on each side


def test_the_same_seed_gives_the_same_cells():
    one, two, other = planted_cells(50), planted_cells(50), planted_cells(50, seed=1)
    assert (one.X != two.X).nnz == 0 and one.obs.equals(two.obs)
    assert (one.X != other.X).nnz > 0


def test_they_are_called_simulated(table):
    assert "simulated" in table.name and table.organism == "simulated"
