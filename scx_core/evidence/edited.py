"""Cells with genes taken out of their sentence, and what the real model answers to them (method §9)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy.special import logsumexp

from scx_core.circuits import Tracer
from scx_core.language import score_labels
from scx_core.sentences import EncodedCell, encode, gene_sentences


def encoded_without(
    tracer: Tracer, rows: Sequence[int] | np.ndarray, genes: Collection[str]
) -> list[EncodedCell]:
    """Prompts of these rows without some genes; the next ones move up, also from beyond the last."""
    cfg, lm = tracer.lm.sentence_config, tracer.lm
    sentences = gene_sentences(tracer.table, rows, cfg.n_genes + len(genes), cfg.tie_seed)
    return [
        encode(
            lm.tokenizer,
            lm.prompt,
            [gene for gene in sentence if gene not in genes][: cfg.n_genes],
            organism=tracer.table.organism,
            num_genes=cfg.n_genes,
            max_tokens=lm.facts.context - 32,
        )
        for sentence in sentences
    ]


def label_log_odds(tracer: Tracer, cells: Sequence[EncodedCell], answer: str) -> np.ndarray:
    """log p(answer) − log Σ p(other answers) of the real model, whole answers, float64 [C] (nats)."""
    score_CK = score_labels(tracer.lm, cells, tracer.labels, tracer.lead)
    own = tracer.labels.index(answer)
    return score_CK[:, own] - logsumexp(np.delete(score_CK, own, axis=1), axis=1)
