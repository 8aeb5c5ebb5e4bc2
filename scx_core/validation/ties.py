"""How much a model's answers depend on the order of genes with equal expression (method §9, stability)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scx_core.cells import CellTable
from scx_core.language import Language, predicted, score_labels
from scx_core.sentences import encode, gene_sentences
from scx_core.validation.texts import lead_of


def accuracy_by_tie_seed(
    lm: Language, table: CellTable, rows: np.ndarray, seeds: Sequence[int]
) -> dict[int, float]:
    """Label accuracy of the original model on `rows`, with the ties of every cell ordered by each seed."""
    labels, cfg = lm.labels or table.types, lm.sentence_config
    lead, found = lead_of(lm, table, rows, labels), {}
    for seed in seeds:
        cells = [
            encode(lm.tokenizer, lm.prompt, genes, organism=table.organism, num_genes=cfg.n_genes)
            for genes in gene_sentences(table, rows, cfg.n_genes, seed)
        ]
        said = predicted(score_labels(lm, cells, labels, lead), labels)
        found[seed] = float(np.mean(np.array(said) == table.labels[rows]))
    return found
