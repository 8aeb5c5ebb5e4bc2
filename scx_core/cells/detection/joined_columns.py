"""Columns of one gene joined row by row, compiled: for blocks of an atlas, in two passes over their values.

Importing this module costs half a second, and its first call on a machine some seconds more. The compiled
code is kept beside this file, or else in the user's cache. Legend: N values of the matrix.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NO_GENE = np.iinfo(np.int32).max
ONE = np.uint64(1)


@njit(inline="always")
def _put(value, gene, take_maximum, data_N, gene_N, start, end):
    """A value behind the others of its row, or put to the last of them where that is of the same gene; where
    the row ends then."""
    if end > start and gene_N[end - ONE] == gene:
        before = data_N[end - ONE]
        if not take_maximum:
            data_N[end - ONE] = before + value
        elif not before >= value:  # NaN comes through, and is found where rows are checked
            data_N[end - ONE] = value
        return end
    data_N[end], gene_N[end] = value, gene
    return end + ONE


def _join(data_N, column_N, pointer, gene_of, take_maximum, out_data_N, out_gene_N, out_pointer) -> None:
    """Fill the `out` arrays. `gene_of`: the gene of a column, as `~gene` where an earlier column has it too;
    the genes of the others ascend. `column_N` and `pointer` are unsigned; columns ascend in every row."""
    late_value, late_gene = np.empty(len(gene_of) + 1, data_N.dtype), np.empty(len(gene_of) + 1, np.int32)
    end = np.uint64(0)
    for row in range(len(pointer) - 1):
        n_late = 0
        for i in range(pointer[row], pointer[row + 1]):  # those of later columns, sorted by gene
            gene = gene_of[column_N[i]]
            if gene < 0:
                place = n_late
                while place > 0 and late_gene[place - 1] > ~gene:
                    late_gene[place], late_value[place] = late_gene[place - 1], late_value[place - 1]
                    place -= 1
                late_gene[place], late_value[place] = ~gene, data_N[i]
                n_late += 1
        late_gene[n_late] = NO_GENE
        number, start = 0, end
        for i in range(pointer[row], pointer[row + 1]):
            gene = gene_of[column_N[i]]
            if gene >= 0:
                while late_gene[number] < gene:
                    value = late_value[number]
                    end = _put(value, late_gene[number], take_maximum, out_data_N, out_gene_N, start, end)
                    number += 1
                out_data_N[end], out_gene_N[end] = data_N[i], gene
                end += ONE
        while number < n_late:
            value = late_value[number]
            end = _put(value, late_gene[number], take_maximum, out_data_N, out_gene_N, start, end)
            number += 1
        out_pointer[row + 1] = end


try:
    join_rows = njit(cache=True, nogil=True)(_join)
except RuntimeError:  # no folder for the compiled code can be written
    join_rows = njit(nogil=True)(_join)
