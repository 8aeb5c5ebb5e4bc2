"""Cells a second from a matrix in memory to ranked genes, symbols and token ids, beside the plain recipe.

Legend: C cells, G genes, N non-zero entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from transformers import PreTrainedTokenizerBase

from scx_core.bench.machine import machine
from scx_core.sentences import Wording, block_encoder, gene_sentences, make_prompt, rank_matrix
from scx_core.sentences.encode import AS_TEXT
from scx_core.sentences.pieces import Encoder

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


def bench_sentences(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Each way for sentences of 100, 200 and 1,000 genes, in one process and one thread."""
    cells, rows = random_cells(), np.arange(CELLS)
    found = []
    for n_genes in SENTENCE_GENES:
        words = Wording(tokenizer, make_prompt("scx"), cells.symbols, "Homo sapiens", n_genes)
        encoder = block_encoder(words, rank_matrix(cells.counts[:8], rows[:8], n_genes, TIE_SEED))
        rank = partial(rank_matrix, cells.counts, rows, n_genes, TIE_SEED)
        row = {"genes": n_genes, "rank": _speed(rank, CELLS)}
        row["symbols"] = _speed(partial(gene_sentences, cells, rows, n_genes, TIE_SEED), CELLS)
        row["tokens"] = _speed(partial(_tokens, rank, encoder), CELLS)
        plain = partial(plain_recipe, cells, REFERENCE_CELLS, n_genes)
        row["plain"] = _speed(plain, REFERENCE_CELLS)
        row["plain_tokens"] = _speed(partial(_plain_tokens, words, plain), REFERENCE_CELLS, runs=2)
        row["ratio"] = row["rank"] / row["plain"]
        row["tokens_ratio"] = row["tokens"] / row["plain_tokens"]
        found.append(row)
    return {"machine": machine(), "detected": DETECTED, "cells": CELLS, "sentences": found}


def _tokens(rank: Callable[[], np.ndarray], encoder: Encoder) -> object:
    return encoder(rank())


def _plain_tokens(words: Wording, recipe: Callable[[], list[str]]) -> object:
    """The plain recipe's sentences in their prompts, through the tokenizer."""
    before, after = words.prompt.parts(num_genes=words.num_genes, organism=words.organism)
    return words.tokenizer([before + text + after for text in recipe()], **AS_TEXT)


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
