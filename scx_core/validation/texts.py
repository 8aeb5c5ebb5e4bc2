"""Held-out cells as padded batches of whole texts: prompt, true answer, end-of-text.

Legend: B cells of a batch, T positions, N predicted tokens (the real ones, in row order).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, find_lead
from scx_core.sentences import ANSWER, EncodedCell, encode, gene_sentences, pad_left

# Cells that are asked whether the checkpoint wants a space before its answer.
LEAD_CELLS = 8


class Texts(NamedTuple):
    """One batch. A position counts when the token after it is known, so the end-of-text is predicted and
    never read: every measure is over the same N positions.

    `real_BT` marks them (it is the attention mask as well). `target_N` is the token that each predicts and
    `target_class_N` that token's class; `read_class_N` is the class of the token that stands there.
    `first_N` marks position 0 of each text, `cell_N` is the text's number in the batch.
    """

    cells: tuple[EncodedCell, ...]
    labels: tuple[str, ...]
    ids_BT: torch.Tensor
    real_BT: torch.Tensor
    target_N: torch.Tensor
    target_class_N: torch.Tensor
    read_class_N: torch.Tensor
    first_N: torch.Tensor
    cell_N: torch.Tensor


def check_rows(table: CellTable, rows: np.ndarray) -> None:
    """ScxError when there is nothing to validate on, or a cell has no label to compare with."""
    if len(rows) == 0:
        raise ScxError("There are no held-out cells to validate on.", "Hold out a share such as 0.1.")
    blank = np.flatnonzero(table.labels[rows] == "")
    if len(blank):
        raise ScxError(
            f"{table.name}: {len(blank)} of {len(rows)} held-out cells have no label, such as row "
            f"{rows[blank[0]]}.",
            "Validate on labelled cells only.",
        )


def candidates_of(lm: Language, table: CellTable, rows: np.ndarray) -> list[str]:
    """The model's own labels; where cells have others, those of the table (a model from elsewhere)."""
    truth = {str(label) for label in table.labels[rows]}
    return lm.labels if truth <= set(lm.labels) else sorted(truth | set(table.types))


def encoded_cells(lm: Language, table: CellTable, rows: np.ndarray, room: int) -> list[EncodedCell]:
    """The prompts of some rows as the model wants them, with `room` tokens of context left for an answer."""
    cfg, prompt = lm.sentence_config, lm.prompt
    return [
        encode(
            lm.tokenizer,
            prompt,
            genes,
            organism=table.organism,
            num_genes=cfg.n_genes,
            max_tokens=lm.facts.context - room,
        )
        for genes in gene_sentences(table, rows, cfg.n_genes, cfg.tie_seed)
    ]


def lead_of(lm: Language, table: CellTable, rows: np.ndarray, candidates: Sequence[str]) -> str:
    """What this checkpoint expects before its answer: as its settings say, else asked on a few cells."""
    if lm.prompt.lead is not None:
        return lm.prompt.lead
    longest = max(len(ids) for ids in answers_of(lm, candidates, " ").values())
    return find_lead(lm, encoded_cells(lm, table, rows[:LEAD_CELLS], longest + 1), candidates)


def batches(
    lm: Language, table: CellTable, rows: np.ndarray, candidates: Sequence[str], lead: str, batch: int
) -> Iterator[Texts]:
    """Texts of `batch` cells at a time; only these rows are read, so memory does not grow with the cells."""
    answers = answers_of(lm, sorted({*candidates, *table.labels[rows].tolist()}), lead)
    room = max(map(len, answers.values()))
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        labels = [str(label) for label in table.labels[part]]
        cells = encoded_cells(lm, table, part, room)
        yield _pad(lm, cells, labels, [answers[label] for label in labels])


def _pad(
    lm: Language, cells: Sequence[EncodedCell], labels: Sequence[str], answers: Sequence[tuple[int, ...]]
) -> Texts:
    whole = [[*cell.ids, *answer, lm.eos_id] for cell, answer in zip(cells, answers, strict=True)]
    classes = [
        np.concatenate([cell.class_T, np.full(len(answer) + 1, ANSWER)])
        for cell, answer in zip(cells, answers, strict=True)
    ]
    padded = pad_left([ids[:-1] for ids in whole], lm.pad_id)

    def flat(pieces: list) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces])).to(
            lm.device
        )

    return Texts(
        cells=tuple(cells),
        labels=tuple(labels),
        ids_BT=torch.from_numpy(padded.ids_BT).to(lm.device),
        real_BT=torch.from_numpy(padded.mask_BT).to(lm.device),
        target_N=flat([ids[1:] for ids in whole]),
        target_class_N=flat([kinds[1:] for kinds in classes]),
        read_class_N=flat([kinds[:-1] for kinds in classes]),
        first_N=flat([np.arange(len(ids) - 1) == 0 for ids in whole]).bool(),
        cell_N=flat([np.full(len(ids) - 1, b) for b, ids in enumerate(whole)]),
    )
