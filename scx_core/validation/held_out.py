"""Which cells a set is validated on and its baselines are fitted on, and these cells as padded batches of
whole texts: prompt, true answer, end-of-text.

Legend: B cells of a batch, T positions, N predicted tokens (the real ones, in row order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.cells import CellTable, Split
from scx_core.cells.split import donors_in_words
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, encode_cells, with_answers
from scx_core.language.answer_tree import AnswerTree, TreeBatch, answer_tree, tree_batch
from scx_core.language.answers import NODES
from scx_core.runs import from_dict
from scx_core.sentences import ANSWER, EncodedCell
from scx_core.training.config import TrainConfig
from scx_core.training.train import training_split
from scx_core.transcoders import TranscoderSet

FIT_CELLS, FIT_SEED = 200, 0  # training cells that baselines are fitted on at most, drawn with the seed
ASIDE = 0.2  # of cells that neither model nor set has seen, at most so many are kept to fit baselines on
ENOUGH = 50  # with fewer such cells all of them test, and no baseline is fitted
UNSEEN = (
    "Neither the model nor the set records these cells as training data, and all are taken as new to both. "
    "Told by what the file holds: cells copied from the training data into another file are not noticed."
)


class ValidationRows(NamedTuple):
    """Rows to measure on, rows to fit baselines on (none of the former), and a sentence on the split."""

    test: np.ndarray
    train: np.ndarray
    words: str


def split_of(lm: Language, transcoders: TranscoderSet, table: CellTable) -> Split | None:
    """The split that the set was trained with, made again from its settings; None where neither the set nor,
    as far as it says so, the model has seen these cells."""
    records = (transcoders.meta.get("provenance", {}), lm.settings.get("provenance", {}))
    if table.fingerprint not in [record.get("data", {}).get("fingerprint") for record in records]:
        return None
    made = transcoders.meta.get("train", {})
    # Only what decides the split, so that a set with settings of another version can be validated too; one
    # from before there were three parts has two.
    wanted = {key: made[key] for key in ("held_out", "split_by", "seed", "choose") if key in made}
    counted = transcoders.meta.get("split", {}).get("choose", 0)
    return training_split(lm, table, from_dict(TrainConfig, wanted | ({} if counted else {"choose": 0.0})))


def training_rows(lm: Language, transcoders: TranscoderSet, table: CellTable) -> np.ndarray | None:
    """Rows of the table that the set was trained on, none where it was trained on other data; None where the
    set does not say what it was trained on, or its split cannot be made again."""
    data = transcoders.meta.get("provenance", {}).get("data", {}).get("fingerprint")
    if not data:
        return None
    if data != table.fingerprint:
        return np.zeros(0, dtype=np.int64)
    try:
        split = split_of(lm, transcoders, table)
    except ScxError:  # such as donors that a person no longer names
        return None
    return None if split is None else split.train


def held_out_rows(lm: Language, transcoders: TranscoderSet, table: CellTable) -> np.ndarray:
    """The test cells: rows that neither the set nor, where it says so, the model was trained on, and that
    nothing was chosen on where the split has three parts. Cells that neither has seen all test."""
    split, table = split_of(lm, transcoders, table), with_answers(lm, table)
    return np.flatnonzero(table.answers != "") if split is None else split.held_out


def validation_rows(
    lm: Language, transcoders: TranscoderSet, table: CellTable, cells: int = 0, seed: int = 0
) -> ValidationRows:
    """The cells of a validation: `cells` of the test cells (0: all), drawn with the seed; the baselines are
    fitted on training cells, where these cells are new to model and set on a part of them kept aside."""
    split, table = split_of(lm, transcoders, table), with_answers(lm, table)
    if split is not None:
        test, fit, words = split.held_out, split.train, split.words
        if table.donors is not None:
            words = f"{words} {donors_in_words(table, split)}"
    else:
        every, words = np.flatnonzero(table.answers != ""), UNSEEN
        aside = min(FIT_CELLS, int(ASIDE * len(every))) if len(every) >= ENOUGH else 0
        fit = draw_rows(every, aside, FIT_SEED)
        test = np.setdiff1d(every, fit)
    if cells:
        test = draw_rows(test, cells, seed)
    return ValidationRows(test, fit, words)


def draw_rows(rows: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """`n` of the rows (all when there are fewer), drawn with the seed, ascending."""
    if n >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))


class Texts(NamedTuple):
    """One batch. A position counts when the token after it is known, so the end-of-text is predicted and
    never read: every measure is over the same N positions.

    Behind each prompt stands a tree of answers (language/answer_tree.py): the true one of each cell, and all
    candidates where `tree` is not None, so that one pass gives the losses and every answer's likelihood.
    Columns T are the prompts' and the tree's. `read` is what the model is given, `real_BT` marks the N
    positions: the prompt and the true answer. `target_N` is the token that each predicts and
    `target_class_N` that token's class; `read_class_N` is the class of the token that stands there.
    `first_N` marks position 0 of each text, `cell_N` is the text's number in the batch.
    """

    cells: tuple[EncodedCell, ...]
    labels: tuple[str, ...]
    read: TreeBatch
    tree: AnswerTree | None
    real_BT: torch.Tensor
    target_N: torch.Tensor
    target_class_N: torch.Tensor
    read_class_N: torch.Tensor
    first_N: torch.Tensor
    cell_N: torch.Tensor

    @property
    def ids_BT(self) -> torch.Tensor:
        """Token ids."""
        return self.read.ids_RQ


def check_rows(table: CellTable, rows: np.ndarray) -> None:
    """ScxError when there is nothing to validate on, or a cell has no label to compare with."""
    if len(rows) == 0 and table.types and not set(table.answers.tolist()) - {""}:
        raise ScxError(
            f"The model has no answer for any type of {table.name} ({', '.join(table.types[:6])}).",
            "Map the types to its answers (page Data, or --answers FILE), or use a model that was trained on "
            "such cells.",
        )
    if len(rows) == 0:
        raise ScxError("There are no held-out cells to validate on.", "Hold out a share such as 0.1.")
    blank = np.flatnonzero(table.answers[rows] == "")
    if len(blank):
        label = str(table.labels[rows[blank[0]]])
        of = f": the model has no answer for {label!r}" if label else ""
        raise ScxError(
            f"{table.name}: {len(blank)} of {len(rows)} held-out cells have no label, such as "
            f"row {rows[blank[0]]}{of}.",
            "Validate on labelled cells only, or map their types to the model's answers.",
        )


def candidates_of(lm: Language, table: CellTable, rows: np.ndarray) -> list[str]:
    """The model's own labels; where cells have other answers, those of the table."""
    truth = {str(label) for label in table.answers[rows]}
    return lm.labels if truth <= set(lm.labels) else sorted(truth | set(table.answers.tolist()) - {""})


class TextsOfRows:
    """Texts of some rows of a table, with the candidates' answers behind the prompts; candidates of more than
    `NODES` tokens stand behind none. Only the rows asked for are read, so memory does not grow with the
    cells."""

    def __init__(
        self, lm: Language, table: CellTable, rows: np.ndarray, candidates: Sequence[str], lead: str
    ) -> None:
        self._lm, self._table, self._candidates = lm, table, candidates
        self._answers = answers_of(lm, sorted({*candidates, *table.answers[rows].tolist()}), lead)

    def of(self, rows: np.ndarray) -> Texts:
        """One batch."""
        labels = [str(label) for label in self._table.answers[rows]]
        cells = encode_cells(self._lm, self._table, rows)
        own = [self._answers[label] for label in labels]
        known = {label: self._answers[label] for label in self._candidates}
        tree = answer_tree(known, own) if known else None
        if tree is not None and len(tree.token_M) > NODES:
            tree = None
        return _texts(self._lm, cells, labels, own, tree)


def _texts(
    lm: Language,
    cells: Sequence[EncodedCell],
    labels: Sequence[str],
    answers: Sequence[tuple[int, ...]],
    tree: AnswerTree | None,
) -> Texts:
    stands = tree or answer_tree(dict(zip(labels, answers, strict=True)), answers)
    read = tree_batch(lm, [cell.ids for cell in cells], stands)
    n_prompt = read.real_RT.shape[1]
    real_BT = torch.zeros(read.ids_RQ.shape, dtype=torch.bool)
    real_BT[:, :n_prompt] = read.real_RT.cpu()
    for b, answer in enumerate(answers):
        for end in range(1, len(answer) + 1):
            real_BT[b, n_prompt - 1 + stands.place[tuple(answer[:end])]] = True
    whole = [[*cell.ids, *answer, lm.eos_id] for cell, answer in zip(cells, answers, strict=True)]
    classes = [
        np.concatenate([cell.class_T, np.full(len(answer) + 1, ANSWER)])
        for cell, answer in zip(cells, answers, strict=True)
    ]

    def flat(pieces: list) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces])).to(
            lm.device
        )

    return Texts(
        cells=tuple(cells),
        labels=tuple(labels),
        read=read,
        tree=tree,
        real_BT=real_BT.to(lm.device),
        target_N=flat([ids[1:] for ids in whole]),
        target_class_N=flat([kinds[1:] for kinds in classes]),
        read_class_N=flat([kinds[:-1] for kinds in classes]),
        first_N=flat([np.arange(len(ids) - 1) == 0 for ids in whole]).bool(),
        cell_N=flat([np.full(len(ids) - 1, b) for b, ids in enumerate(whole)]),
    )
