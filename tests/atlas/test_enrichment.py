"""Enrichment against scipy's exact test and correction; planted sets are found, permuted names are not."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, fisher_exact

from scx_core.atlas.gene_sets.enrich import overlaps, permuted, upper_tail
from scx_core.atlas.gene_sets.shared_genes import indicator
from scx_core.statistics.hypothesis_tests import q_values


def random_rows(rng, rows, genes, low, high):
    return indicator([rng.choice(genes, rng.integers(low, high), replace=False) for _ in range(rows)], genes)


def by_fisher(lists_FG, sets_SG):
    """Every p by scipy, one 2 × 2 table at a time, [F, S]."""
    lists, sets = lists_FG.toarray().astype(bool), sets_SG.toarray().astype(bool)
    p_FS = np.ones((len(lists), len(sets)))
    for f, of_feature in enumerate(lists):
        for s, of_set in enumerate(sets):
            both, rest = (of_feature & of_set).sum(), (~of_feature & ~of_set).sum()
            table = [[both, (of_feature & ~of_set).sum()], [(~of_feature & of_set).sum(), rest]]
            p_FS[f, s] = fisher_exact(table, alternative="greater").pvalue
    return p_FS


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_fisher_and_benjamini_hochberg_of_scipy(seed):
    rng = np.random.default_rng(seed)
    genes = int(rng.integers(30, 400))
    lists_FG = random_rows(rng, 25, genes, 1, 25)
    sets_SG = random_rows(rng, 30, genes, 1, genes)
    expected_FS = by_fisher(lists_FG, sets_SG)
    found = overlaps(lists_FG, sets_SG)
    p_FS = np.ones(expected_FS.shape)
    p_FS[found.feature_E, found.set_E] = found.p_E
    np.testing.assert_allclose(p_FS, expected_FS, rtol=1e-11, atol=1e-12)
    assert found.n_tests == expected_FS.size
    q_FS = np.ones(expected_FS.shape)
    q_FS[found.feature_E, found.set_E] = q_values(found.p_E, found.n_tests)
    expected = false_discovery_control(expected_FS.ravel(), method="bh").reshape(expected_FS.shape)
    np.testing.assert_allclose(q_FS, expected, rtol=0, atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 40))
def test_tests_without_overlap_count(p, ones):
    expected = false_discovery_control([*p, *[1.0] * ones], method="bh")[: len(p)]
    np.testing.assert_allclose(q_values(np.array(p), len(p) + ones), expected, rtol=0, atol=1e-12)


def test_features_without_genes_are_no_tests():
    lists_FG = indicator([np.array([0, 1]), np.zeros(0, dtype=np.int64)], 10)
    found = overlaps(lists_FG, indicator([np.array([0, 1, 2])], 10))
    assert found.n_tests == 1 and found.feature_E.tolist() == [0]
    assert upper_tail(np.zeros(0, dtype=int), 10, np.zeros(0), np.zeros(0)).shape == (0,)


def test_planted_sets_are_found_and_permuted_names_are_not():
    rng = np.random.default_rng(0)
    genes, planted = 2000, 40
    sets_SG = random_rows(rng, 300, genes, 15, 100)
    lists = []
    for f in range(planted):
        members = sets_SG[f].indices
        lists.append(np.union1d(rng.choice(members, 10, replace=False), rng.choice(genes, 10, replace=False)))
    lists_FG = indicator(lists, genes)
    found = overlaps(lists_FG, sets_SG)
    q_E = q_values(found.p_E, found.n_tests)
    p_FS = sp.csr_matrix((-np.log(found.p_E), (found.feature_E, found.set_E)), (planted, 300)).toarray()
    assert p_FS.argmax(1).tolist() == list(range(planted))
    assert set(found.feature_E[q_E < 0.01].tolist()) == set(range(planted))
    shuffled = permuted(lists_FG, rng)
    assert np.diff(shuffled.indptr).tolist() == np.diff(lists_FG.indptr).tolist()
    chance = overlaps(shuffled, sets_SG)
    assert (q_values(chance.p_E, chance.n_tests) < 0.05).sum() <= 2
