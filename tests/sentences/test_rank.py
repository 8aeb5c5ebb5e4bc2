"""Ranking: equal to a slow reference, independent of the block, ties by seed and nothing else."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from scx_core.sentences import gene_sentences, rank_genes
from scx_core.sentences import rank as room
from tests.tiny import TinyTable, tiny_table

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 12)),
    elements=st.sampled_from([0, 0, 1, 1, 2, 3, 7.5]),
)


def table_of(values_CG: np.ndarray) -> TinyTable:
    names = np.array([f"G{g}" for g in range(values_CG.shape[1])], dtype=object)
    return TinyTable(sparse.csr_matrix(values_CG), np.full(len(values_CG), "x", dtype=object), names)


def slow(values_G: np.ndarray, cell: int, n: int, seed: int) -> list[str]:
    """Sort (value, key) pairs one by one."""
    found = [g for g in range(len(values_G)) if values_G[g] > 0]
    key = {g: int(room.tie_keys(np.array([cell]), np.array([g]), seed)[0]) for g in found}
    return [f"G{g}" for g in sorted(found, key=lambda g: (-float(values_G[g]), key[g]))][:n]


@given(MATRICES, st.integers(1, 14), st.integers(0, 2**32))
def test_ranking_equals_a_slow_reference(values_CG, n, seed):
    table = table_of(values_CG)
    rows = np.arange(len(values_CG))
    assert gene_sentences(table, rows, n, seed) == [slow(values_CG[c], c, n, seed) for c in rows]


ODD = [0.0, -0.0, 1.0, 1.0, 2.0, 3.0, 7.5, 16.0, 17.0, 4097.0, 4098.0, np.inf, np.nan, -1.0, 1e-3, 1e-42]


@st.composite
def blocks(draw):
    """CSR blocks as files can hold them: columns in any order, twice in a row, zeros, NaN, empty rows."""
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=5))
    n = sum(lengths)
    values = draw(hnp.arrays(np.float32, n, elements=st.sampled_from(ODD) | st.floats(0, 9, width=32)))
    columns = draw(hnp.arrays(np.int32, n, elements=st.integers(0, 40)))
    return sparse.csr_matrix((values, columns, np.cumsum([0, *lengths])), shape=(len(lengths), 41))


@given(blocks(), st.integers(1, 70), st.integers(0, 2**32))
def test_both_ways_give_one_order(block, n, seed):
    pytest.importorskip("numba")
    cells = np.arange(block.shape[0]) * 1_000_003
    plain = room.rank_plain(block, cells, n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "WORTH_COMPILING", 0)
        ranked = rank_genes(block, cells, n, seed)
    assert [genes.tolist() for genes in ranked] == [genes[genes >= 0].tolist() for genes in plain]


def test_both_ways_agree_on_long_rows_of_few_counts():
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    counts_CG = rng.poisson(rng.gamma(0.4, 3.0, (200, 4000))).astype(np.float32)
    block = sparse.csr_matrix(counts_CG)
    assert block.nnz >= room.WORTH_COMPILING  # so that the compiled way is taken
    for n in (1, 200, 4000):
        ranked = room.rank_matrix(block, np.arange(200), n, 42)
        assert np.array_equal(ranked, room.rank_plain(block, np.arange(200), n, 42))


def test_without_numba_the_order_is_the_same_and_it_is_said(monkeypatch):
    block = sparse.csr_matrix(np.random.default_rng(1).poisson(1.0, (9, 50)).astype(np.float32))
    wanted = room.rank_plain(block, np.arange(9), 20, 3)
    monkeypatch.setattr(room, "WORTH_COMPILING", 0)
    monkeypatch.setitem(sys.modules, "scx_core.sentences.kernel", None)
    room._kernel.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no numba"):
            assert np.array_equal(room.rank_matrix(block, np.arange(9), 20, 3), wanted)
    finally:
        room._kernel.cache_clear()


@given(MATRICES, st.integers(0, 99), st.randoms(use_true_random=False))
def test_a_sentence_depends_on_its_cell_alone(values_CG, seed, random):
    table = table_of(values_CG)
    alone = [gene_sentences(table, [c], 12, seed)[0] for c in range(table.n_cells)]
    rows = [random.randrange(table.n_cells) for _ in range(7)]
    assert gene_sentences(table, rows, 12, seed) == [alone[c] for c in rows]


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_block_size_changes_nothing(monkeypatch, block):
    table = tiny_table(20)
    whole = gene_sentences(table, np.arange(20), 12, 5)
    monkeypatch.setattr(room, "BLOCK", block)
    assert gene_sentences(table, np.arange(20), 12, 5) == whole


@given(MATRICES, st.integers(0, 99))
def test_counts_and_log_values_give_the_same_order(values_CG, seed):
    """Also the ties: normalising by a cell's total and taking logs keeps equal values equal."""
    counts_CG = values_CG.round().astype(np.float32)
    totals_C1 = np.maximum(counts_CG.sum(1, keepdims=True), 1)
    logged_CG = np.log10(1 + counts_CG / totals_C1 * 1e4).astype(np.float32)
    rows = np.arange(len(counts_CG))
    assert gene_sentences(table_of(counts_CG), rows, 12, seed) == gene_sentences(
        table_of(logged_CG), rows, 12, seed
    )


def test_ties_are_broken_evenly_by_cell_and_by_seed():
    rows = np.arange(4000)
    table = table_of(np.ones((len(rows), 4), dtype=np.float32))
    for seed in (0, 1, 42):
        first = [genes[0] for genes in gene_sentences(table, rows, 1, seed)]
        shares = [first.count(f"G{g}") / len(first) for g in range(4)]
        assert max(abs(share - 0.25) for share in shares) < 0.03
    by_seed = [gene_sentences(table, [7], 4, seed)[0] for seed in range(60)]
    assert len({tuple(genes) for genes in by_seed}) > 15


def test_a_tie_seed_moves_ties_only():
    values_CG = np.array([[5, 1, 1, 1, 3, 1, 1]], dtype=np.float32)
    orders = [gene_sentences(table_of(values_CG), [0], 7, seed)[0] for seed in range(8)]
    assert {tuple(order[:2]) for order in orders} == {("G0", "G4")}
    assert {frozenset(order[2:]) for order in orders} == {frozenset({"G1", "G2", "G3", "G5", "G6"})}
    assert len({tuple(order) for order in orders}) > 1


def test_known_order_stays_as_it_is():
    """A seed must give the same sentences in every release: published circuits depend on it."""
    table = table_of(np.ones((2, 6), dtype=np.float32))
    assert gene_sentences(table, [0, 1], 6, 42) == [
        ["G1", "G0", "G2", "G3", "G4", "G5"],
        ["G0", "G4", "G3", "G5", "G1", "G2"],
    ]


def test_explicit_zeros_and_empty_cells():
    block = sparse.csr_matrix((np.array([0.0, 2.0], np.float32), [0, 1], [0, 2, 2]), shape=(2, 3))
    ranked = rank_genes(block, np.array([0, 1]), 3, 0)
    assert [list(genes) for genes in ranked] == [[1], []]


def test_no_rows_give_no_sentences():
    assert gene_sentences(tiny_table(3), [], 5, 0) == []
