"""The training text as token ids, encoded once, and the order in which it is read.

The order is a pure function of (seed, step): a resumed run needs no memory of what it has seen.
Legend: C cells, B cells of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.language import Language, find_lead
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import (
    Prompt,
    SentenceConfig,
    answer_ids,
    encode,
    gene_sentences,
    make_prompt,
    pad_left,
)

Cells = Sequence[int] | np.ndarray
LEAD_CELLS = 8  # cells that a checkpoint is asked on, when its files do not say how answers begin


class Batch(NamedTuple):
    """Left-padded int64 [B, T] on the model's device."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor


class Texts(NamedTuple):
    """Prompt, answer and end-of-text of C cells end to end: cell c is ids[start[c] : start[c + 1]].

    The last `answer[c]` positions of a cell decide its label: from the prompt's last token on.
    """

    ids: np.ndarray
    start: np.ndarray
    answer: np.ndarray

    @property
    def n_cells(self) -> int:
        """C."""
        return len(self.start) - 1

    def batch(self, lm: Language, cells: Cells) -> Batch:
        """Some cells, padded on the left, where the model is."""
        padded = pad_left([self.ids[self.start[c] : self.start[c + 1]].tolist() for c in cells], lm.pad_id)
        return Batch(*(torch.from_numpy(part).to(lm.device) for part in padded))

    def weights(self, lm: Language, cells: Cells, answer_weight: float) -> torch.Tensor:
        """Weights of the cells' tokens one after another, float32 [tokens], 1 on average."""
        lengths = np.diff(self.start)
        parts = [
            np.repeat([1.0, answer_weight], [lengths[c] - self.answer[c], self.answer[c]]) for c in cells
        ]
        weights = torch.from_numpy(np.concatenate(parts)).float().to(lm.device)
        return weights / weights.mean()


def encode_texts(
    lm: Language, table: CellTable, rows: np.ndarray, sentences: SentenceConfig, progress: Progress = silent
) -> Texts:
    """Texts of the labelled cells at `rows`, as the model was trained to read them; 4 bytes a token.

    Raises ScxError where `encode` does (a cell without genes, a context that is too short).
    """
    prompt = make_prompt(sentences.prompt, lm.settings.get("lead"))
    longest = max(len(answer_ids(lm.tokenizer, label, " ")) for label in set(table.labels[rows].tolist()))
    fixed: dict[str, Any] = {
        "organism": table.organism,
        "num_genes": sentences.n_genes,
        "max_tokens": lm.facts.context - longest - 1,
    }
    lead = prompt.lead
    ids: list[np.ndarray] = []
    deciding: list[int] = []
    for done, genes in enumerate(gene_sentences(table, rows, sentences.n_genes, sentences.tie_seed)):
        cell = encode(lm.tokenizer, prompt, genes, **fixed)
        if lead is None:
            lead = _ask_lead(lm, table, rows, sentences, prompt, fixed)
        answer = answer_ids(lm.tokenizer, table.labels[rows[done]], lead)
        ids.append(np.array([*cell.ids, *answer, lm.eos_id], dtype=np.int32))
        deciding.append(len(answer) + 2)
        if done % 100 == 0:
            progress(done, len(rows), "writing cell sentences")
    start = np.concatenate([[0], np.cumsum([len(part) for part in ids])])
    return Texts(np.concatenate(ids), start, np.array(deciding))


def _ask_lead(
    lm: Language,
    table: CellTable,
    rows: np.ndarray,
    sentences: SentenceConfig,
    prompt: Prompt,
    fixed: dict[str, Any],
) -> str:
    """Whether the checkpoint wants a space before the answer (a property that its files do not state)."""
    some = gene_sentences(table, rows[:LEAD_CELLS], sentences.n_genes, sentences.tie_seed)
    cells = [encode(lm.tokenizer, prompt, genes, **fixed) for genes in some]
    return find_lead(lm, cells, sorted(set(table.labels.tolist()) - {""}))


@lru_cache(maxsize=2)
def _epoch_order(n_cells: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_cells)


def cells_of_step(step: int, n_cells: int, per_batch: int, seed: int) -> np.ndarray:
    """The cells of a step: every epoch reads all cells once, in an order of its own, in whole batches.

    The few that do not fill a batch are left out of that epoch.
    """
    size = min(per_batch, n_cells)
    epoch, place = divmod(step, n_cells // size)
    return _epoch_order(n_cells, seed, epoch)[place * size : (place + 1) * size]
