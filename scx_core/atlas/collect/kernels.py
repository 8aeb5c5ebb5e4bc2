"""The pass's inner loops, compiled: whole-matrix operations would fetch the sums from memory many times.

All take the units from `first` up to `last`, so that threads can share them out without sharing a sum.
Legend: N tokens, R places of a batch (padding included), B cells, J bins of a token, K bins, F units,
E active pairs, k examples, C of them, W tokens of context.
"""

from __future__ import annotations

import numpy as np

from scx_core.training.ops.kernels import compiled


@compiled
def add_pairs(first, last, total_KF, bin_NJ, order_NJ, start_N1, unit_E, value_E) -> None:
    """Add every active pair to the bins of its token; the pairs of token n begin at `start_N1[n]`.
    `order_NJ` is the order of tokens, by bin: what was added to is then still at hand."""
    for j in range(bin_NJ.shape[1]):
        for i in range(len(bin_NJ)):
            n = order_NJ[i, j]
            total_F = total_KF[bin_NJ[n, j]]
            for e in range(start_N1[n], start_N1[n + 1]):
                if first <= unit_E[e] < last:
                    total_F[unit_E[e]] += value_E[e]


@compiled
def add_rows(first, last, total_KF, bin_NJ, order_NJ, z_RF, row_N) -> None:
    """Add the positive part of every token's row to the bins of the token, in the order of `order_NJ`."""
    for j in range(bin_NJ.shape[1]):
        for i in range(len(bin_NJ)):
            n = order_NJ[i, j]
            z_F, total_F = z_RF[row_N[n], first:last], total_KF[bin_NJ[n, j], first:last]
            for f in range(len(z_F)):
                total_F[f] += max(z_F[f], np.float32(0.0))


@compiled
def cells_of_rows(
    first, last, z_RF, row_N, start_B1, fired_BF, sum_BF, square_BF, token_BF, value_BF
) -> None:
    """Of every cell, whose tokens begin at `start_B1`: in how many of them each unit fires, the sums of its
    activations and of their squares, the token where it fires most strongly, and how strongly."""
    for b in range(len(start_B1) - 1):
        fired_F, sum_F = fired_BF[b, first:last], sum_BF[b, first:last]
        square_F = square_BF[b, first:last]
        token_F, value_F = token_BF[b, first:last], value_BF[b, first:last]
        for n in range(start_B1[b], start_B1[b + 1]):
            z_F = z_RF[row_N[n], first:last]
            for f in range(len(z_F)):
                fired_F[f] += np.int32(z_F[f] > 0)
                z = max(z_F[f], np.float32(0.0))
                sum_F[f] += z
                square_F[f] += np.float64(z) * z
                larger = z_F[f] > value_F[f]
                token_F[f] = np.int32(n) if larger else token_F[f]
                value_F[f] = z_F[f] if larger else value_F[f]


@compiled
def keep_best(key_E, unit_E, token_E, row_N, one_a_cell, key_Fk, drawer_Fk, row_Fk, token_Fk) -> None:
    """Take the candidates into the heaps one after another. `key_Fk` falls; `drawer_Fk` says where the rest
    of each example lies: its cell's row, and its token, where it is one of these candidates'."""
    k = key_Fk.shape[1]
    for e in range(len(key_E)):
        unit, key, place = unit_E[e], key_E[e], k - 1
        if key <= key_Fk[unit, place]:
            continue
        row = row_N[token_E[e]]
        if one_a_cell:
            for i in range(k):
                if key_Fk[unit, i] > -np.inf and row_Fk[unit, drawer_Fk[unit, i]] == row:
                    place = i
        if key <= key_Fk[unit, place]:
            continue
        drawer = drawer_Fk[unit, place]
        while place > 0 and key_Fk[unit, place - 1] < key:
            key_Fk[unit, place] = key_Fk[unit, place - 1]
            drawer_Fk[unit, place] = drawer_Fk[unit, place - 1]
            place -= 1
        key_Fk[unit, place], drawer_Fk[unit, place] = key, drawer
        row_Fk[unit, drawer], token_Fk[unit, drawer] = row, token_E[e]


@compiled
def contexts(token_C, before, row_N, id_N, near_CW, id_CW) -> None:
    """The tokens around some tokens and their ids, as far as they belong to the same cell; else −1."""
    for c in range(len(token_C)):
        for w in range(near_CW.shape[1]):
            n = token_C[c] + w - before
            inside = 0 <= n < len(row_N) and row_N[n] == row_N[token_C[c]]
            near_CW[c, w], id_CW[c, w] = (n, id_N[n]) if inside else (-1, -1)


@compiled
def values_of_pairs(near_CW, unit_C, start_N1, unit_E, value_E, value_CW) -> None:
    """The activations of a unit at the tokens around it. Pairs are sorted by unit within each token."""
    for c in range(len(unit_C)):
        for w in range(near_CW.shape[1]):
            value_CW[c, w] = 0.0
            if near_CW[c, w] < 0:
                continue
            low, end = start_N1[near_CW[c, w]], start_N1[near_CW[c, w] + 1]
            high = end
            while low < high:
                middle = (low + high) // 2
                if unit_E[middle] < unit_C[c]:
                    low = middle + 1
                else:
                    high = middle
            if low < end and unit_E[low] == unit_C[c]:
                value_CW[c, w] = value_E[low]


@compiled
def values_of_rows(near_CW, unit_C, z_RF, row_N, value_CW) -> None:
    """The same where the positive part of token n is row `row_N[n]` of a matrix."""
    for c in range(len(unit_C)):
        for w in range(near_CW.shape[1]):
            n = near_CW[c, w]
            value_CW[c, w] = 0.0 if n < 0 else max(z_RF[row_N[n], unit_C[c]], np.float32(0.0))
