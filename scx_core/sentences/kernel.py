"""The ranking's inner loop, compiled: the strongest genes of every cell in time that grows with its genes.

For each cell:
1. Count its values by their top bits, which finds a cut that the strongest `n_genes` all lie above.
2. Give every entry above the cut a sort word: its value, inverted, and then its tie key.
3. Sort the words by eleven bits at a time from the lowest to the highest, skipping what all have in common.
4. Put right the few that differ only in bits that were not looked at.

Positive float32 numbers stand in the same order as their bits do, read as whole numbers.
Legend: C cells, N entries of the block, R ranks, M entries above the cut.

Importing this module costs half a second, and the first call on a machine some seconds more: `rank` does
so only for a block that is worth it. The compiled code is kept beside this file, or else in the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

U32, U64 = np.uint32, np.uint64
TOP = U32(20)  # a value's bits above this one: sign, exponent and three of the mantissa
BINS = 2048
DIGIT = U64(BINS - 1)
INFINITE = U32(0x7F800000)
LARGEST = U32(0x7FFFFFFF)
VALUE = U64(33)  # a sort word's bits from this one on hold the value, those below the top of the tie key
CUT_OFF = U64(31)  # low bits of a tie key that a sort word has no room for
SHIFTS = (U64(22), U64(33), U64(43), U64(53))  # of the digits: the tie key's top, then the value
GAMMA, MIX_1, MIX_2 = U64(0x9E3779B97F4A7C15), U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
SPREAD = U64(0xD6E8FEB86659FD93)


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function in machine code, kept on disk unless no folder for it can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


@njit(inline="always")
def mix(x) -> np.uint64:
    """SplitMix64's finaliser: spreads every input bit over the 64 output bits."""
    x = (x ^ (x >> U64(30))) * MIX_1
    x = (x ^ (x >> U64(27))) * MIX_2
    return x ^ (x >> U64(31))


@njit(inline="always")
def tie_key(state, gene) -> np.uint64:
    """Pseudo-random number of a gene in a cell. Different genes of a cell have different ones: every step of
    it can be undone."""
    return mix(state ^ (U64(gene) * SPREAD))


@njit
def _cut(bits_N, start, end, n_genes, counts):
    """Bits of a value such that at least `n_genes` entries are not below it, or all that are above 0."""
    counts[:] = 0
    for i in range(start, end):
        counts[bits_N[i] >> TOP] += 1
    # Infinities are above any cut; some NaN would be counted with them.
    place, wanted = (INFINITE >> TOP) - U32(1), n_genes
    while place > 0 and counts[place] < wanted:
        wanted -= counts[place]
        place -= U32(1)
    return max(U32(place << TOP), U32(1))


@njit
def _before(word_a, gene_a, word_b, gene_b, state):
    """Whether entry a stands before entry b."""
    if word_a != word_b:
        return word_a < word_b
    return tie_key(state, gene_a) < tie_key(state, gene_b)


@njit
def _sorted(words_2M, genes_2M, m, state, counts_4):
    """Sort the first `m` entries of row 0, with row 1 as the other half of the desk; the row they end in."""
    counts_4[:] = 0
    for i in range(m):
        for digit in range(4):
            counts_4[digit, (words_2M[0, i] >> SHIFTS[digit]) & DIGIT] += 1
    here = 0
    for digit in range(4):
        count, shift, there = counts_4[digit], SHIFTS[digit], 1 - here
        if count[(words_2M[here, 0] >> shift) & DIGIT] == m:
            continue
        place = 0
        for value in range(BINS):
            count[value], place = place, place + count[value]
        for i in range(m):
            value = (words_2M[here, i] >> shift) & DIGIT
            words_2M[there, count[value]] = words_2M[here, i]
            genes_2M[there, count[value]] = genes_2M[here, i]
            count[value] += 1
        here = there
    words, genes = words_2M[here], genes_2M[here]
    for i in range(1, m):
        word, gene, j = words[i], genes[i], i
        while j > 0 and _before(word, gene, words[j - 1], genes[j - 1], state):
            words[j], genes[j], j = words[j - 1], genes[j - 1], j - 1
        words[j], genes[j] = word, gene
    return here


@compiled
def rank_rows(value_N, gene_N, pointer, cells_C, seed, out_CR) -> None:
    """Fill `out_CR` (int32, -1 where a cell has no more genes) with the columns of the positive values.

    `value_N` float32, `gene_N` int32 and `pointer` int64 are the block's CSR; `cells_C` int64 and `seed`
    uint64 key the ties.
    """
    bits_N = value_N.view(U32)
    most = 1
    for c in range(len(cells_C)):
        most = max(most, pointer[c + 1] - pointer[c])
    words_2M, genes_2M = np.empty((2, most), U64), np.empty((2, most), np.int32)
    counts, counts_4 = np.empty(2 * BINS, np.int32), np.empty((4, BINS), np.int32)
    n_genes = out_CR.shape[1]
    for c in range(len(cells_C)):
        start, end = pointer[c], pointer[c + 1]
        low = _cut(bits_N, start, end, n_genes, counts)
        state = mix(U64(cells_C[c]) + GAMMA * (seed + U64(1)))
        m = 0
        for i in range(start, end):
            if low <= bits_N[i] <= INFINITE:  # negative values have the highest bit, NaN those above infinity
                key = tie_key(state, gene_N[i])
                words_2M[0, m] = (U64(LARGEST - bits_N[i]) << VALUE) | (key >> CUT_OFF)
                genes_2M[0, m] = gene_N[i]
                m += 1
        row = _sorted(words_2M, genes_2M, m, state, counts_4) if m else 0
        for r in range(n_genes):
            out_CR[c, r] = genes_2M[row, r] if r < m else -1
