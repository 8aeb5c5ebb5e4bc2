"""Gene names: where the symbols are, what kind of names a column holds, and how equal ones are merged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp


class GeneColumns(NamedTuple):
    """How the file's columns become genes. `target` [n_vars] gives each column's gene.

    `take_maximum`: columns of one gene are joined by their maximum, else summed.
    """

    n_genes: int
    target: np.ndarray
    take_maximum: bool = False

    def merge(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """CSR [n, n_vars] to CSR [n, n_genes], sorted columns, no stored zeros."""
        if self.n_genes == len(self.target):
            out = x.copy()
        else:
            out = self._merged(x)
        out.eliminate_zeros()
        out.sort_indices()
        return out

    def _merged(self, x: sp.csr_matrix) -> sp.csr_matrix:
        row = np.repeat(np.arange(x.shape[0], dtype=np.int64), np.diff(x.indptr))
        key = row * self.n_genes + self.target[x.indices]
        order = np.argsort(key, kind="stable")
        key, data = key[order], x.data[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        join = np.maximum if self.take_maximum else np.add
        data = join.reduceat(data, first) if len(first) else data
        row, column = np.divmod(key[first], self.n_genes)
        pointer = np.searchsorted(row, np.arange(x.shape[0] + 1))
        return sp.csr_matrix((data, column, pointer), shape=(x.shape[0], self.n_genes))


def unique_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct names in order of first appearance, and for each input the number of its name."""
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[inverse]
