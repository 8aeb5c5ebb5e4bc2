"""Which cells a model is trained on and which are held out, and why each split is as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ScxError
from .table import CellTable

WAYS = ("stratified", "random", "donor")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the labelled cells: `train` and `held_out`, ascending, without overlap.

    `held_out_share` is the share that came out, which a donor split can only approach.
    """

    train: np.ndarray
    held_out: np.ndarray
    by: str
    seed: int
    held_out_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for the run's folder."""
        return {
            "by": self.by,
            "seed": self.seed,
            "held_out_share": self.held_out_share,
            "train": self.train.tolist(),
            "held_out": self.held_out.tolist(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Split:
        """The split that `to_json` wrote. ScxError when keys are missing or the two parts overlap."""
        try:
            train, held_out = (np.asarray(record[key], dtype=np.int64) for key in ("train", "held_out"))
            split = cls(
                train, held_out, str(record["by"]), int(record["seed"]), float(record["held_out_share"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ScxError(f"The split is not readable ({error}).", "Split the cells again.") from error
        if len(np.intersect1d(train, held_out)):
            raise ScxError("The split has cells on both sides.", "Split the cells again.")
        return split


def split_cells(table: CellTable, held_out: float = 0.1, by: str = "stratified", seed: int = 0) -> Split:
    """Divide the labelled cells.

    stratified: the share is taken of each type, at least one cell where a type has two or more;
    random: of all cells; donor: whole donors are held out, drawn until their cells come near the share,
    and cells without a donor are left out of both sides.
    Raises ScxError when the share is not between 0 and 1 or the split cannot be made.
    """
    if not 0 < held_out < 1:
        raise ScxError(f"The held-out share is {held_out}.", "Give a share between 0 and 1, such as 0.1.")
    usable = table.labels != ""
    if by == "donor" and table.donors is not None:
        # A cell without a donor could belong to any, so it may stand on neither side.
        usable = usable & (table.donors != "")
    cells = np.flatnonzero(usable)
    if len(cells) < 2:
        known = "labelled cells with a donor" if by == "donor" else "labelled cells"
        raise ScxError(f"{table.name}: {len(cells)} {known}.", "A split needs at least two.")
    rng = np.random.default_rng(seed)
    if by == "stratified":
        out = _stratified(table.labels[cells], held_out, rng)
    elif by == "random":
        out = np.zeros(len(cells), dtype=bool)
        out[rng.permutation(len(cells))[: _share_of(len(cells), held_out)]] = True
    elif by == "donor":
        out = _by_donor(table, cells, held_out, rng)
    else:
        raise ScxError(f"There is no split by '{by}'.", f"Choose one of {', '.join(WAYS)}.")
    if out.all() or not out.any():
        raise ScxError(
            f"{table.name}: a {by} split leaves one side empty.", "Use more cells or another share."
        )
    return Split(cells[~out], cells[out], by, seed, float(out.mean()))


def _share_of(n: int, share: float) -> int:
    """Cells to hold out of n: rounded, at least one, never all; none when there is only one."""
    return min(max(round(n * share), 1), n - 1)


def _stratified(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(len(labels), dtype=bool)
    for label in sorted(set(labels.tolist())):
        mine = np.flatnonzero(labels == label)
        out[rng.permutation(mine)[: _share_of(len(mine), share)]] = True
    return out


def _by_donor(table: CellTable, cells: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Hold out whole donors, drawn in random order, as long as that brings the share nearer."""
    if table.donors is None:
        raise ScxError(
            f"{table.name} has no donor column, so donors cannot be kept apart.",
            "Choose the donor column, or split 'stratified' or 'random'.",
        )
    donors = table.donors[cells].astype(str)
    names, counts = np.unique(donors, return_counts=True)
    if len(names) < 2:
        raise ScxError(
            f"{table.name}: all labelled cells have the donor '{names[0]}' (column '{table.choices.donor}').",
            "A donor split needs two donors; split 'stratified' or 'random', and say that donors are shared.",
        )
    goal, taken = share * len(cells), 0
    held: list[str] = []
    for place in rng.permutation(len(names)):
        closer = abs(taken + counts[place] - goal) < abs(taken - goal)
        if closer and len(held) < len(names) - 1:
            held.append(names[place])
            taken += int(counts[place])
    # Every donor may be bigger than twice the goal: then the smallest is the nearest there is.
    return np.isin(donors, held or [names[np.argmin(counts)]])
