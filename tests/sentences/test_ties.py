"""What a tie decides of a cell sentence, counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from scx_core.sentences import tie_shares, ties_of
from scx_core.sentences.rank import gene_sentences

VALUES = np.array(
    [
        [9, 7, 5, 5, 5, 1, 0, 0],  # of four genes, two are in by the seed, as one 5 stays out
        [8, 8, 6, 4, 3, 2, 1, 0],  # two share a place, nobody is in by the seed
        [4, 3, 0, 0, 0, 0, 0, 0],  # fewer genes than the sentence has room for
        [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=np.float32,
)


def table():
    symbols = np.array([f"G{i}" for i in range(8)], dtype=object)
    return SimpleNamespace(symbols=symbols, rows=lambda rows: sparse.csr_matrix(VALUES[rows]))


def test_shares_by_hand():
    member_C, place_C = tie_shares(table(), np.arange(4), 4)
    assert member_C.tolist() == [0.5, 0.0, 0.0, 0.0]
    assert place_C.tolist() == [0.5, 0.5, 0.0, 0.0]
    found = ties_of(table(), [0, 1], 4)
    assert (found.member, found.place, found.n_cells) == (0.25, 0.5, 2)
    assert found.low == 0.0
    assert "25%" in found.words()
    assert ties_of(table(), [], 4).n_cells == 0


def test_only_members_by_a_tie_change_with_the_seed():
    seen = [set(gene_sentences(table(), [0, 1], 4, seed)[0]) for seed in range(12)]
    assert set.intersection(*seen) == {"G0", "G1"}
    assert set.union(*seen) == {"G0", "G1", "G2", "G3", "G4"}


@pytest.mark.parametrize("n_genes", [2, 8])
def test_no_tie_at_the_end_decides_nobody(n_genes):
    assert tie_shares(table(), [0], n_genes)[0].tolist() == [0.0]
