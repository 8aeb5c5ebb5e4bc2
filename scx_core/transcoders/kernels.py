"""Selection's inner loops, compiled: which pre-activations of a batch are kept, in one look at each row.

A row of pre-activations fits the processor's nearest cache; whole-matrix operations would fetch all rows
from memory for every comparison. Rows are shared out over threads.
Importing this module costs half a second: `sparse` does so only for a batch that is worth it.
Legend: T tokens, F features, N kept pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numba import njit

SPARE = 8  # candidates beyond k that a row's bisection may leave; the smallest are then taken out one by one
HALVINGS = 60  # of the span of a float32 row, after which only equal values are left in it


def compiled(function: Callable) -> Callable:
    """The function in machine code, kept on disk unless no folder for it can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


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
def count_rows(pre_TF, first, last, level, count_T) -> None:
    """How many values of each row lie above the level."""
    for t in range(first, last):
        count_T[t] = _count_above(pre_TF[t], level)


@compiled
def fill_rows(pre_TF, first, last, level, start_T, flat_N, value_N) -> None:
    """Their places in the flattened matrix, and the values."""
    n_features = pre_TF.shape[1]
    for t in range(first, last):
        n = start_T[t]
        for f in range(n_features):
            if pre_TF[t, f] > level:
                flat_N[n], value_N[n] = t * n_features + f, pre_TF[t, f]
                n += 1


@compiled
def sort_by_feature(feature_N, token_N, start_F1, value_XN, token_of_N, value_of_XN) -> None:
    """Tokens and values in the stable order by feature; `start_F1` is where each feature begins."""
    place_F = start_F1[:-1].copy()
    for n in range(len(feature_N)):
        place = place_F[feature_N[n]]
        place_F[feature_N[n]] = place + 1
        token_of_N[place] = token_N[n]
        for x in range(len(value_XN)):
            value_of_XN[x][place] = value_XN[x][n]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _over_rows(job: Callable[[int, int], None], n_rows: int) -> None:
    """`job(first, last)` over all rows, in as many parts as torch has threads."""
    threads = torch.get_num_threads()
    if threads == 1:
        job(0, n_rows)
        return
    edges = [n_rows * i // threads for i in range(threads + 1)]
    list(_pool(threads).map(job, edges[:-1], edges[1:]))


def tops(pre_TF: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k largest positive values of every row: how many [T], their features [N] and the values [N]."""
    n_tokens = len(pre_TF)
    count_T = np.empty(n_tokens, np.int64)
    feature_Tk, value_Tk = np.empty((n_tokens, k), np.int64), np.empty((n_tokens, k), np.float32)
    array_TF = pre_TF.detach().numpy()
    _over_rows(lambda a, b: top_rows(array_TF, a, b, k, count_T, feature_Tk, value_Tk), n_tokens)
    found = torch.from_numpy(count_T), torch.from_numpy(feature_Tk), torch.from_numpy(value_Tk)
    if int(found[0].min()) == k:
        return found[0], found[1].view(-1), found[2].view(-1)
    real_Tk = torch.arange(k) < found[0][:, None]
    return found[0], found[1][real_Tk], found[2][real_Tk]


def above(pre_TF: torch.Tensor, level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the flattened matrix of all values above the level, ascending [N], and the values [N]."""
    array_TF, n_tokens = pre_TF.detach().numpy(), len(pre_TF)
    count_T, floor = np.empty(n_tokens, np.int64), np.float32(level)
    _over_rows(lambda a, b: count_rows(array_TF, a, b, floor, count_T), n_tokens)
    start_T = np.cumsum(count_T) - count_T
    total = int(count_T.sum())
    flat_N, value_N = np.empty(total, np.int64), np.empty(total, np.float32)
    _over_rows(lambda a, b: fill_rows(array_TF, a, b, floor, start_T, flat_N, value_N), n_tokens)
    return torch.from_numpy(flat_N), torch.from_numpy(value_N)


def by_feature(
    feature_N: torch.Tensor,
    token_N: torch.Tensor,
    start_F1: torch.Tensor,
    values_N: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Tokens [N], and each of some float32 values [N], in the stable order by feature."""
    value_XN = tuple(value.detach().contiguous().numpy() for value in values_N)
    token_of_N, value_of_XN = np.empty(len(feature_N), np.int64), tuple(map(np.empty_like, value_XN))
    sort_by_feature(feature_N.numpy(), token_N.numpy(), start_F1.numpy(), value_XN, token_of_N, value_of_XN)
    return torch.from_numpy(token_of_N), [torch.from_numpy(value) for value in value_of_XN]
