"""Which cells a set is validated on."""

from __future__ import annotations

import numpy as np

from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.runs import from_dict
from scx_core.transcoders import TrainConfig, TranscoderSet, training_split


def held_out_rows(lm: Language, transcoders: TranscoderSet, table: CellTable) -> np.ndarray:
    """The rows that neither the set nor, where it says so, the model was trained on.

    The set's own split is made again from its settings; cells that neither has seen are all held out.
    """
    records = (transcoders.meta.get("provenance", {}), lm.settings.get("provenance", {}))
    if table.fingerprint not in [record.get("data", {}).get("fingerprint") for record in records]:
        return np.flatnonzero(table.labels != "")
    made = transcoders.meta.get("train", {})
    # Only what decides the split, so that a set with settings of another version can be validated too.
    cfg = from_dict(TrainConfig, {key: made[key] for key in ("held_out", "split_by", "seed") if key in made})
    return training_split(lm, table, cfg).held_out


def draw_rows(rows: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """`n` of the rows (all when there are fewer), drawn with the seed, ascending."""
    if n >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
