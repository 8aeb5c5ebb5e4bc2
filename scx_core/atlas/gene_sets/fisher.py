"""Over-representation of gene sets among the genes of features: exact, and vectorised over features × sets.

Upper tail of the hypergeometric distribution (Fisher's exact test, "greater"), Benjamini–Hochberg over every
test that is made, and a null in which the genes' names are permuted.
Legend: F features, S sets, G genes of the background, E pairs (feature, set) that share a gene.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.stats import hypergeom


class Overlaps(NamedTuple):
    """Pairs of a feature and a set that share genes, sorted by feature, then set, [E] each, with the upper
    tail's p. All other of the `n_tests` pairs have p = 1."""

    feature_E: np.ndarray
    set_E: np.ndarray
    shared_E: np.ndarray
    p_E: np.ndarray
    n_tests: int


def overlaps(lists_FG: sp.csr_matrix, sets_SG: sp.csr_matrix) -> Overlaps:
    """Test every feature's list of genes against every set.

    Both matrices hold 0 and 1 over the same G genes, the background: what could have been drawn.
    p = P(X ≥ shared) with X hypergeometric (G genes, of which a set's are marked, a list's are drawn).
    """
    shared = (lists_FG.astype(np.int32) @ sets_SG.astype(np.int32).T).tocsr()
    shared.sort_indices()
    shared.eliminate_zeros()
    drawn_F, marked_S = np.diff(lists_FG.indptr), np.diff(sets_SG.indptr)
    feature_E = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    set_E = shared.indices.astype(np.int64)
    p_E = upper_tail(shared.data, lists_FG.shape[1], marked_S[set_E], drawn_F[feature_E])
    n_tests = int((drawn_F > 0).sum()) * sets_SG.shape[0]
    return Overlaps(feature_E, set_E, shared.data, p_E, n_tests)


def upper_tail(shared_E: np.ndarray, n_genes: int, marked_E: np.ndarray, drawn_E: np.ndarray) -> np.ndarray:
    """P(X ≥ shared) of the hypergeometric distribution, [E]; equal cases are computed once."""
    if not len(shared_E):
        return np.zeros(0)
    radix = n_genes + 1
    key_E = (shared_E.astype(np.int64) * radix + marked_E) * radix + drawn_E
    key, place_E = np.unique(key_E, return_inverse=True)
    rest, drawn = np.divmod(key, radix)
    shared, marked = np.divmod(rest, radix)
    return hypergeom.sf(shared - 1, n_genes, marked, drawn)[place_E]


def benjamini_hochberg(p_E: np.ndarray, n_tests: int) -> np.ndarray:
    """Adjusted p of the given tests, [E], where the other `n_tests` − E tests have p = 1."""
    if not len(p_E):
        return np.zeros(0)
    order_E = np.argsort(p_E, kind="stable")
    scaled_E = p_E[order_E] * n_tests / np.arange(1, len(p_E) + 1)
    q_E = np.empty(len(p_E))
    q_E[order_E] = np.minimum(np.minimum.accumulate(scaled_E[::-1])[::-1], 1.0)
    return q_E


def permuted(rows_XG: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Rows of genes with the genes' names dealt anew: the same permutation for all rows, so that they keep
    their sizes and what they have in common."""
    return rows_XG[:, rng.permutation(rows_XG.shape[1])].sorted_indices()


def indicator(members: list[np.ndarray], n_genes: int) -> sp.csr_matrix:
    """Rows of distinct gene numbers as a matrix of 0 and 1 [len(members), G]."""
    sizes = [len(one) for one in members]
    columns = np.concatenate(members) if sum(sizes) else np.zeros(0, dtype=np.int64)
    pointer = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    made = sp.csr_matrix((np.ones(len(columns), dtype=np.int32), columns, pointer), (len(members), n_genes))
    made.sort_indices()
    return made
