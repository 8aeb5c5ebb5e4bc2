"""Which cells a model is trained on, which choose and which test, and why each split is as it is.

Three parts: weights are fitted on `train`; thresholds, the best checkpoint and settings are chosen on
`choose`; every figure that is reported comes from `held_out`, the test cells, which nothing was chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import ScxError
from .cell_table import CellTable

WAYS = ("stratified", "random", "donor")


NO_CELLS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the labelled cells: `train`, `choose` and `held_out` (test), ascending, without overlap.

    `held_out_share` is the share that came out, which a donor split can only approach. `choose` is empty in a
    split of two parts: there the cells that choose are the cells that test. `choose_by` is how they were
    drawn from those to train on: as `by` says, except where too few donors are left to keep apart.
    """

    train: np.ndarray
    held_out: np.ndarray
    by: str
    seed: int
    held_out_share: float
    choose: np.ndarray = field(default_factory=NO_CELLS.copy)
    choose_by: str = ""

    @property
    def choosing(self) -> np.ndarray:
        """The cells that choices are made on: in a split of two parts the test cells themselves."""
        return self.choose if len(self.choose) else self.held_out

    @property
    def words(self) -> str:
        """The three parts in a sentence."""
        if not len(self.choose):
            return (
                f"{len(self.train):,} cells to train on, {len(self.held_out):,} to test on; none were kept "
                "apart for choosing: where something was chosen on cells that were not trained on, it was on "
                "the test cells."
            )
        drawn = (
            " (of the donors that are trained on: too few for donors of their own)"
            if self.by == "donor" and self.choose_by != "donor"
            else ""
        )
        return (
            f"{len(self.train):,} cells to train on, {len(self.choose):,} to choose on{drawn}, "
            f"{len(self.held_out):,} to test on."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for the run's folder."""
        found = {
            "by": self.by,
            "seed": self.seed,
            "held_out_share": self.held_out_share,
            "train": self.train.tolist(),
            "held_out": self.held_out.tolist(),
        }
        if len(self.choose):
            found |= {"choose": self.choose.tolist(), "choose_by": self.choose_by}
        return found

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Split:
        """The split that `to_json` wrote; without choosing cells where it is of two parts. ScxError when keys
        are missing or parts overlap."""
        try:
            parts = [record["train"], record["held_out"], record.get("choose", [])]
            train, held_out, choose = map(_rows, parts)
            by, seed, share = str(record["by"]), int(record["seed"]), float(record["held_out_share"])
            split = cls(train, held_out, by, seed, share, choose, str(record.get("choose_by", "")))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            problem = f"The split is not readable ({str(error)[:80]})."
            raise ScxError(problem, "Split the cells again.") from error
        if any(len(np.intersect1d(*two)) for two in combinations((train, held_out, choose), 2)):
            raise ScxError("The split has cells in two of its parts.", "Split the cells again.")
        return split


def _rows(given: Any) -> np.ndarray:
    """Rows of cells, each once; NumPy would read 1.9 as 1 and "3" as 3. Raises TypeError or ValueError."""
    if not isinstance(given, list) or any(type(row) is not int or not 0 <= row < 2**53 for row in given):
        raise ValueError("rows are no list of whole numbers from 0 on")
    if len(set(given)) < len(given):
        raise ValueError("a row is there twice")
    return np.asarray(given, dtype=np.int64)


def split_cells(
    table: CellTable, held_out: float = 0.1, by: str = "stratified", seed: int = 0, choose: float = 0.0
) -> Split:
    """Divide the labelled cells.

    stratified: the share is taken of each type, at least one cell where a type has two or more;
    random: of all cells; donor: whole donors are held out, drawn until their cells come near the share,
    and cells without a donor are left out of all parts. `choose` is the share of all cells that choose; they
    are taken out of those to train on (`with_choosing`): the test cells are the same whatever it is.
    Raises ScxError when a share is not between 0 and 1 or the split cannot be made.
    """
    if not 0 < held_out < 1:
        raise ScxError(f"The held-out share is {held_out}.", "Give a share between 0 and 1, such as 0.1.")
    usable = table.labels != ""
    if by == "donor" and table.donors is not None:
        # A cell without a donor could belong to any, so it may stand in no part.
        usable = usable & (table.donors != "")
    cells = np.flatnonzero(usable)
    if len(cells) < 2:
        known = "labelled cells with a donor" if by == "donor" else "labelled cells"
        raise ScxError(f"{table.name}: {len(cells)} {known}.", "A split needs at least two.")
    out = _drawn(table, cells, held_out, by, np.random.default_rng(seed))
    if out.all() or not out.any():
        raise ScxError(
            f"{table.name}: a {by} split leaves one side empty.", "Use more cells or another share."
        )
    split = Split(cells[~out], cells[out], by, seed, float(out.mean()))
    return with_choosing(table, split, choose)


BY_DONOR = "`--split-by donor`, or Split by: donor on the page Train,"


def donors_in_words(table: CellTable, split: Split) -> str:
    """Whether persons have cells both among those that were trained or chosen on and among the test cells,
    why, and how to change it."""
    if table.donors is None:
        return "Donors are not known: whether one donor's cells both train and test cannot be said."
    tested = set(table.donors[split.held_out].tolist()) - {""}
    seen = set(table.donors[np.concatenate([split.train, split.choose])].tolist()) - {""}
    shared = tested & seen
    if not tested or not seen:
        return "The donors of these cells are not known, so one donor's cells may both train and test."
    if not shared:
        return f"Donors are kept apart: the {len(tested):,} that test have no cell to train on."
    if len(tested | seen) < 2:
        return "All cells are of one donor: the test cells are of no other person than those to train on."
    drawn = {"stratified": "by cell type (stratified, the default)", "random": "at random"}.get(
        split.by, f"'{split.by}'"
    )
    return (
        f"Donors are shared: {len(shared):,} of the {len(tested):,} donors of the test cells have cells to "
        f"train on too, since cells were drawn {drawn} and not by donor, so the test says nothing of donors "
        f"that are new. {BY_DONOR} keeps them apart."
    )


def with_choosing(table: CellTable, split: Split, share: float, seed: int | None = None) -> Split:
    """A split of three parts from one of two: `share` of all its cells, taken out of those to train on.

    Drawn as the test cells were, with a seed of its own (default: the split's). Where only one donor is left
    to train on, its cells are divided by type. The split itself when it has choosing cells already, the share
    is 0, or too few cells are left. Raises ScxError when the share leaves nothing to train on.
    """
    if not 0 <= share < 1:
        raise ScxError(f"The share that chooses is {share}.", "Give a share from 0 to below 1, such as 0.05.")
    cells = split.train
    of_these = share * (len(cells) + len(split.held_out)) / max(1, len(cells))
    if share == 0 or len(split.choose) or len(cells) < 2:
        return split
    if of_these >= 1:
        raise ScxError(
            f"A share of {share:g} to choose on and {split.held_out_share:.2g} to test on leaves no cells to "
            "train on.",
            "Give smaller shares.",
        )
    by = split.by if split.by in WAYS else "stratified"
    if by == "donor" and (table.donors is None or len(set(table.donors[cells].tolist())) < 2):
        by = "stratified"
    rng = np.random.default_rng([split.seed if seed is None else seed, 1])
    out = _drawn(table, cells, of_these, by, rng)
    if out.all() or not out.any():
        return split
    return replace(split, train=cells[~out], choose=cells[out], choose_by=by)


def _drawn(
    table: CellTable, cells: np.ndarray, share: float, by: str, rng: np.random.Generator
) -> np.ndarray:
    """Which of the cells are drawn, bool [cells]. Raises ScxError for a way that does not exist."""
    if by == "stratified":
        return _stratified(table.labels[cells], share, rng)
    if by == "random":
        out = np.zeros(len(cells), dtype=bool)
        out[rng.permutation(len(cells))[: _share_of(len(cells), share)]] = True
        return out
    if by == "donor":
        return _by_donor(table, cells, share, rng)
    raise ScxError(f"There is no split by '{by}'.", f"Choose one of {', '.join(WAYS)}.")


def _share_of(n: int, share: float) -> int:
    """Cells to draw of n: rounded, at least one, never all; none when there is only one."""
    return min(max(round(n * share), 1), n - 1)


def _stratified(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(len(labels), dtype=bool)
    for label in sorted(set(labels.tolist())):
        mine = np.flatnonzero(labels == label)
        out[rng.permutation(mine)[: _share_of(len(mine), share)]] = True
    return out


def _by_donor(table: CellTable, cells: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw whole donors, in random order, as long as that brings the share nearer."""
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
