"""How much a model's answers depend on the order of genes with equal expression (method §9, stability)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scx_core.cells import CellTable
from scx_core.language import (
    Language,
    answer_form,
    answer_labels,
    encode_cells,
    predicted,
    score_labels,
    with_answers,
)


def accuracy_by_tie_seed(
    lm: Language, table: CellTable, rows: np.ndarray, seeds: Sequence[int]
) -> dict[int, float]:
    """Label accuracy of the original model on `rows`, with the ties of every cell ordered by each seed."""
    table = with_answers(lm, table)
    labels, found = answer_labels(lm, table), {}
    lead = answer_form(lm, table).lead
    for seed in seeds:
        cells = encode_cells(lm, table, rows, sentences=replace(lm.sentence_config, tie_seed=seed))
        said = predicted(score_labels(lm, cells, labels, lead), labels)
        found[seed] = float(np.mean(np.array(said) == table.answers[rows]))
    return found
