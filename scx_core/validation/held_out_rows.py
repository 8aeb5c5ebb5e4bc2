"""Which cells a set is validated on, and which its baselines are fitted on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scx_core.cells import CellTable, Split
from scx_core.language import Language, with_answers
from scx_core.runs import from_dict
from scx_core.training.config import TrainConfig
from scx_core.training.train import training_split
from scx_core.transcoders import TranscoderSet
from scx_core.validation.baselines import FIT_CELLS, FIT_SEED

ASIDE = 0.2  # of cells that neither model nor set has seen, at most so many are kept to fit baselines on
ENOUGH = 50  # with fewer such cells all of them test, and no baseline is fitted
UNSEEN = "Neither the model nor the set was trained on these cells: all of them are new to both."


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
