"""Cells a second from a matrix in memory to ranked genes and to sentences, beside the plain recipe.

Legend: C cells, G genes, N non-zero entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from scx_core.bench.machine import machine
from scx_core.sentences import gene_sentences, rank_matrix

CELLS, GENES, DETECTED = 4096, 30_000, 2_000
DIFFERENT = 256  # cells that are drawn; the rest are the same again, under other row numbers
REFERENCE_CELLS = 512  # the plain recipe is timed on fewer
SENTENCE_GENES = (100, 200, 1000)
TIE_SEED = 42


class Cells(NamedTuple):
    """Counts [C, G] in memory, with what ranking needs of a cell table."""

    counts: sparse.csr_matrix
    symbols: np.ndarray

    def rows(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Some cells."""
        return self.counts[indices]


def random_cells(n_cells: int = CELLS, seed: int = 0) -> Cells:
    """Cells of 2,000 genes, more than half of them at a count of 1, as in sequenced droplets."""
    rng = np.random.default_rng(seed)
    genes = [np.sort(rng.choice(GENES, DETECTED, replace=False)) for _ in range(DIFFERENT)]
    counts = 1 + rng.poisson(rng.gamma(0.4, 3.0, (DIFFERENT, DETECTED)))
    again = -(-n_cells // DIFFERENT)
    gene_N = np.tile(np.concatenate(genes).astype(np.int32), again)[: n_cells * DETECTED]
    value_N = np.tile(counts.astype(np.float32).ravel(), again)[: n_cells * DETECTED]
    pointer = np.arange(n_cells + 1) * DETECTED
    symbols = np.array([f"G{g:05d}" for g in range(GENES)], dtype=object)
    return Cells(sparse.csr_matrix((value_N, gene_N, pointer), shape=(n_cells, GENES)), symbols)


def plain_recipe(cells: Cells, n_cells: int, n_genes: int) -> list[str]:
    """The usual recipe in numpy: each cell's genes shuffled, sorted by value and joined to a sentence."""
    rng, out = np.random.default_rng(TIE_SEED), []
    for c in range(n_cells):
        start, end = cells.counts.indptr[c : c + 2]
        order_N = rng.permutation(end - start)
        genes_N, values_N = cells.counts.indices[start:end][order_N], cells.counts.data[start:end][order_N]
        ranked = genes_N[np.argsort(-values_N, kind="stable")][:n_genes]
        out.append(" ".join(cells.symbols[ranked]))
    return out


def bench_sentences() -> dict[str, Any]:
    """Each way for sentences of 100, 200 and 1,000 genes, in one process and one thread."""
    cells, rows = random_cells(), np.arange(CELLS)
    found = []
    for n_genes in SENTENCE_GENES:
        rank = _speed(partial(rank_matrix, cells.counts, rows, n_genes, TIE_SEED), CELLS)
        words = _speed(partial(gene_sentences, cells, rows, n_genes, TIE_SEED), CELLS)
        plain = _speed(partial(plain_recipe, cells, REFERENCE_CELLS, n_genes), REFERENCE_CELLS)
        found.append(
            {"genes": n_genes, "rank": rank, "symbols": words, "plain": plain, "ratio": rank / plain}
        )
    return {"machine": machine(), "detected": DETECTED, "cells": CELLS, "sentences": found}


def _speed(job: Callable[[], object], n_cells: int, runs: int = 5) -> float:
    """Cells a second of processor time, median of the runs after a first one that loads what it needs.

    Processor time, and not the clock's, so that other work on the machine does not count.
    """
    job()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        job()
        seconds.append(time.process_time() - start)
    return n_cells / float(np.median(seconds))
