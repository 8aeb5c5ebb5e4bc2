"""Inner loops, compiled: which pre-activations of a batch are kept, and the gradients of those alone.

A row of pre-activations fits the processor's nearest cache; whole-matrix operations would fetch all rows
from memory for every comparison. Rows are shared out over threads.
Importing this module costs half a second: `sparse` does so only for a batch that is worth it.
Legend: T tokens, F features, N kept pairs, d width that is read, D width that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit

SPARE = 8  # candidates beyond k that a row's bisection may leave; the smallest are then taken out one by one
HALVINGS = 60  # of the span of a float32 row, after which only equal values are left in it


def compiled(function: Callable, **options: Any) -> Callable:
    """The function in machine code, kept on disk unless no folder for it can be written."""
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:
        return njit(nogil=True, **options)(function)


@compiled
def _count_above(row_F, level):
    count = np.int32(0)
    for f in range(len(row_F)):
        count += np.int32(row_F[f] > level)
    return count


@compiled
def _level(row_F, k, guess):
    """A level that at least k values lie above, and few more, where more than k are positive."""
    low, high = np.float32(0.0), np.float32(np.inf)
    if _count_above(row_F, low) <= k:
        return low
    level = guess
    for _ in range(HALVINGS):
        if not low < level < high:
            level = low + (high - low) / np.float32(2) if high < np.inf else max(row_F)
            if not low < level < high:
                high = level
                level = low + (high - low) / np.float32(2)
                if level in (low, high):
                    break
        count = _count_above(row_F, level)
        if count >= k:
            low = level
            if count <= k + SPARE:
                break
        else:
            high = level
        level = low + (high - low) / np.float32(2) if high < np.inf else low * np.float32(2)
    return low


@compiled
def top_rows(pre_TF, first, last, k, count_T, feature_Tk, value_Tk) -> None:
    """The k largest positive values of rows first to last, by feature; of equal ones the first are kept."""
    n_features = pre_TF.shape[1]
    feature_F, value_F = np.empty(n_features, np.int64), np.empty(n_features, np.float32)
    guess = np.float32(0.0)
    for t in range(first, last):
        row_F = pre_TF[t]
        level = _level(row_F, k, guess)
        guess, n = level, 0
        for f in range(n_features):
            if row_F[f] > level:
                feature_F[n], value_F[n] = f, row_F[f]
                n += 1
        while n > k:
            worst = 0
            for i in range(1, n):
                if value_F[i] <= value_F[worst]:
                    worst = i
            for i in range(worst, n - 1):
                feature_F[i], value_F[i] = feature_F[i + 1], value_F[i + 1]
            n -= 1
        count_T[t] = n
        for i in range(n):
            feature_Tk[t, i], value_Tk[t, i] = feature_F[i], value_F[i]


@compiled
def largest_rows(pre_TF, first, last, n, feature_Tn, value_Tn) -> None:
    """The n largest values of rows first to last, whatever their sign, by feature; n is small."""
    for t in range(first, last):
        feature_n, value_n, lowest = feature_Tn[t], value_Tn[t], 0
        for f in range(pre_TF.shape[1]):
            value = pre_TF[t, f]
            if f >= n and value <= value_n[lowest]:
                continue
            place = f
            if f >= n:
                place = n - 1
                for i in range(lowest, n - 1):
                    feature_n[i], value_n[i] = feature_n[i + 1], value_n[i + 1]
            feature_n[place], value_n[place] = f, value
            if f >= n - 1:
                lowest = 0
                for i in range(1, n):
                    if value_n[i] <= value_n[lowest]:
                        lowest = i


@compiled
def count_rows(pre_TF, first, last, level_F, count_T) -> None:
    """How many values of each row lie above the levels of their features."""
    for t in range(first, last):
        row_F, count = pre_TF[t], np.int32(0)
        for f in range(len(row_F)):
            count += np.int32(row_F[f] > level_F[f])
        count_T[t] = count


@compiled
def fill_rows(pre_TF, first, last, level_F, start_T, flat_N, value_N) -> None:
    """Their places in the flattened matrix, and the values."""
    n_features = pre_TF.shape[1]
    for t in range(first, last):
        n = start_T[t]
        for f in range(n_features):
            if pre_TF[t, f] > level_F[f]:
                flat_N[n], value_N[n] = t * n_features + f, pre_TF[t, f]
                n += 1


@compiled
def sort_by_feature(start_T1, feature_N, start_F1, g_N, value_N, token_of_N, g_of_N, value_of_N) -> None:
    """Tokens and values in the stable order by feature; `start_F1` is where each feature begins."""
    place_F = start_F1[:-1].copy()
    for t in range(len(start_T1) - 1):
        for n in range(start_T1[t], start_T1[t + 1]):
            place = place_F[feature_N[n]]
            place_F[feature_N[n]] = place + 1
            token_of_N[place], g_of_N[place], value_of_N[place] = t, g_N[n], value_N[n]


@compiled
def write_rows(value_N, W_FD, start_T1, feature_N, first, last, out_TD) -> None:
    """Σ value W_i over the active pairs of tokens first to last."""
    width = W_FD.shape[1]
    write_D = np.empty(width, np.float32)
    for t in range(first, last):
        write_D[:] = 0.0
        for n in range(start_T1[t], start_T1[t + 1]):
            W_D, value = W_FD[feature_N[n]], value_N[n]
            for j in range(width):
                write_D[j] += value * W_D[j]
        out_TD[t] = write_D


def _pair_products(g_TD, W_FD, start_T1, feature_N, first, last, out_N) -> None:
    """g_t · W_i of the active pairs of tokens first to last."""
    for t in range(first, last):
        for n in range(start_T1[t], start_T1[t + 1]):
            i, total = feature_N[n], np.float32(0.0)
            for j in range(g_TD.shape[1]):
                total += g_TD[t, j] * W_FD[i, j]
            out_N[n] = total


# A sum in order takes a number at a time; the compiler may take sixteen, always in the same way.
pair_products = compiled(_pair_products, fastmath={"reassoc", "contract"})


@compiled
def _add_pair(total_d, factor, row_d):
    for j in range(len(total_d)):
        total_d[j] += factor * row_d[j]


@compiled
def _add_four(total_d, factors, at, rows_Td, token_of_N):
    """Four pairs from place `at` on, one after another as `_add_pair` does, with the sums read once."""
    a, b, c, d = factors[at], factors[at + 1], factors[at + 2], factors[at + 3]
    row_a, row_b = rows_Td[token_of_N[at]], rows_Td[token_of_N[at + 1]]
    row_c, row_d = rows_Td[token_of_N[at + 2]], rows_Td[token_of_N[at + 3]]
    for j in range(len(total_d)):
        total_d[j] = total_d[j] + a * row_a[j] + b * row_b[j] + c * row_c[j] + d * row_d[j]


@compiled
def sum_pairs(x_Td, g_TD, start_F1, token_of_N, g_of_N, value_of_N, first, last, W_enc, b_enc, W_dec) -> None:
    """The gradients of features first to last, from their pairs: Σ g x_t, Σ g, Σ value g_t."""
    read_d, write_D = np.empty(x_Td.shape[1], np.float32), np.empty(g_TD.shape[1], np.float32)
    for i in range(first, last):
        read_d[:], write_D[:] = 0.0, 0.0
        n, end = start_F1[i], start_F1[i + 1]
        b_enc[i] = 0.0
        for m in range(n, end):
            b_enc[i] += g_of_N[m]
        while n + 4 <= end:
            _add_four(read_d, g_of_N, n, x_Td, token_of_N)
            _add_four(write_D, value_of_N, n, g_TD, token_of_N)
            n += 4
        while n < end:
            _add_pair(read_d, g_of_N[n], x_Td[token_of_N[n]])
            _add_pair(write_D, value_of_N[n], g_TD[token_of_N[n]])
            n += 1
        W_enc[i], W_dec[i] = read_d, write_D


def _adam_rows(W, g, m, v, first, last, one_less, decay, moment, square, root, tiny, unit) -> None:
    """Adam on rows first to last, read and written once; of `unit` ones the gradient along the row is left
    out, and the row has norm 1 again at the end."""
    width = W.shape[1]
    for i in range(first, last):
        W_d, g_d, m_d, v_d = W[i], g[i], m[i], v[i]
        along = np.float32(0.0)
        if unit:
            for j in range(width):
                along += g_d[j] * W_d[j]
        for j in range(width):
            slope = g_d[j] - along * W_d[j]
            m_d[j] += one_less * (slope - m_d[j])
            v_d[j] = decay * v_d[j] + square * slope * slope
            W_d[j] -= moment * m_d[j] / (np.sqrt(v_d[j]) * root + tiny)
        if unit:
            size = np.float32(0.0)
            for j in range(width):
                size += W_d[j] * W_d[j]
            scale = np.float32(1.0) / max(np.sqrt(size), np.float32(1e-12))
            for j in range(width):
                W_d[j] *= scale


adam_rows = compiled(_adam_rows, fastmath={"reassoc", "contract"})


def adam(
    weight: torch.Tensor,
    grad: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    step: int,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    unit: bool,
) -> None:
    """Step number `step` (from 1) of Adam on a weight [R, d] or [R] and its moments, in place, as
    `torch.optim.Adam`; `unit`: its rows have norm 1 and keep it."""
    shape = weight.shape if weight.ndim == 2 else (1, -1)
    arrays = [t.detach().view(shape).numpy() for t in (weight, grad.contiguous(), mean, square)]
    of_mean, of_square = betas
    moment = np.float32(rate / (1 - of_mean**step))
    root = np.float32((1 - of_square**step) ** -0.5)
    numbers = np.float32(1 - of_mean), np.float32(of_square), moment, np.float32(1 - of_square), root
    in_parts(lambda a, b: adam_rows(*arrays, a, b, *numbers, np.float32(eps), unit), len(arrays[0]))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)  # besides the calling one


def in_parts(job: Callable[[int, int], None], n: int, start_R1: np.ndarray | None = None) -> None:
    """`job(first, last)` over the numbers up to n, in as many parts as torch has threads: of as many rows
    each, or of as many pairs where `start_R1` says where the pairs of each row begin."""
    threads = torch.get_num_threads()
    if threads == 1:
        job(0, n)
        return
    edges = [n * i // threads for i in range(threads + 1)]
    if start_R1 is not None:
        wanted = [int(start_R1[-1]) * i // threads for i in range(1, threads)]
        edges[1:-1] = np.searchsorted(start_R1, wanted).tolist()
    others = [_pool(threads - 1).submit(job, *ends) for ends in pairwise(edges[1:])]
    job(0, edges[1])
    for other in others:
        other.result()


def tops(pre_TF: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k largest positive values of every row: how many [T], their features [N] and the values [N]."""
    n_tokens = len(pre_TF)
    count_T = np.empty(n_tokens, np.int64)
    feature_Tk, value_Tk = np.empty((n_tokens, k), np.int64), np.empty((n_tokens, k), np.float32)
    array_TF = pre_TF.detach().numpy()
    in_parts(lambda a, b: top_rows(array_TF, a, b, k, count_T, feature_Tk, value_Tk), n_tokens)
    found = torch.from_numpy(count_T), torch.from_numpy(feature_Tk), torch.from_numpy(value_Tk)
    if int(found[0].min()) == k:
        return found[0], found[1].view(-1), found[2].view(-1)
    real_Tk = torch.arange(k) < found[0][:, None]
    return found[0], found[1][real_Tk], found[2][real_Tk]


def largest(pre_TF: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [T, n], ascending, and values [T, n] of the n largest in every row of at least n, n small."""
    feature_Tn, value_Tn = np.empty((len(pre_TF), n), np.int64), np.empty((len(pre_TF), n), np.float32)
    array_TF = pre_TF.detach().numpy()
    in_parts(lambda a, b: largest_rows(array_TF, a, b, n, feature_Tn, value_Tn), len(pre_TF))
    return torch.from_numpy(feature_Tn), torch.from_numpy(value_Tn)


def above(pre_TF: torch.Tensor, level: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the flattened matrix of all values above the level (one, or one a feature), ascending [N],
    and the values [N]."""
    array_TF, n_tokens = pre_TF.detach().numpy(), len(pre_TF)
    levels = level.detach().numpy() if isinstance(level, torch.Tensor) else np.float32(level)
    floor_F = np.ascontiguousarray(np.broadcast_to(levels, pre_TF.shape[1:]))
    count_T = np.empty(n_tokens, np.int64)
    in_parts(lambda a, b: count_rows(array_TF, a, b, floor_F, count_T), n_tokens)
    start_T = np.cumsum(count_T) - count_T
    total = int(count_T.sum())
    flat_N, value_N = np.empty(total, np.int64), np.empty(total, np.float32)
    in_parts(lambda a, b: fill_rows(array_TF, a, b, floor_F, start_T, flat_N, value_N), n_tokens)
    return torch.from_numpy(flat_N), torch.from_numpy(value_N)


def decoded(
    value_N: torch.Tensor, W_dec_FD: torch.Tensor, start_T1: torch.Tensor, feature_N: torch.Tensor
) -> torch.Tensor:
    """Σ value W_dec over each token's active pairs, [T, D]."""
    tensors = (value_N, W_dec_FD, start_T1, feature_N)
    value, W_dec, start, feature = (tensor.detach().contiguous().numpy() for tensor in tensors)
    out = np.empty((len(start) - 1, W_dec.shape[1]), np.float32)
    in_parts(lambda a, b: write_rows(value, W_dec, start, feature, a, b, out), len(out), start)
    return torch.from_numpy(out)


def gradients(
    x_Td: torch.Tensor,
    g_TD: torch.Tensor,
    W_dec_FD: torch.Tensor,
    value_N: torch.Tensor,
    start_T1: torch.Tensor,
    feature_N: torch.Tensor,
    slope_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of W_enc [F, d], b_enc [F] and W_dec [F, D] where the output Σ value W_dec has the gradient
    g [T, D]. `slope_N` is what a value rises by with its pre-activation (None: 1).

    Every feature's sums run over its tokens in order, whatever the number of threads.
    """
    tensors = (x_Td, g_TD, W_dec_FD, value_N, start_T1, feature_N)
    x, g, W_dec, value, start, feature = (tensor.detach().contiguous().numpy() for tensor in tensors)
    g_N = np.empty(len(feature), np.float32)
    in_parts(lambda a, b: pair_products(g, W_dec, start, feature, a, b, g_N), len(x), start)
    if slope_N is not None:
        g_N *= slope_N.numpy()
    start_F1 = np.concatenate([[0], np.cumsum(np.bincount(feature, minlength=len(W_dec)))])
    by_N = np.empty(len(feature), np.int32), np.empty_like(g_N), np.empty_like(g_N)
    sort_by_feature(start, feature, start_F1, g_N, value, *by_N)
    to_dec, to_bias = np.empty_like(W_dec), np.empty(len(W_dec), np.float32)
    to_enc = np.empty((len(W_dec), x.shape[1]), np.float32)

    def some(first: int, last: int) -> None:
        sum_pairs(x, g, start_F1, *by_N, first, last, to_enc, to_bias, to_dec)

    in_parts(some, len(W_dec), start_F1)
    return torch.from_numpy(to_enc), torch.from_numpy(to_bias), torch.from_numpy(to_dec)
