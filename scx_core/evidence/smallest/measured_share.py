"""What a kept node set is worth: its share of what features add, and of the whole target.

The two differ where much of the target remains without any feature: 0.83 of what the features add can be 0.95
of the target, of which 0.67 needs no feature at all.
Intervals are 95% bootstrap-t over donors where two or more are known, else over cells (resampling.py).
Legend: B cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.evidence.smallest.faithfulness import kept_parts
from scx_core.statistics.resampling import one_group, ratio_interval

FAINT = 0.1  # logits that the features add at least
FAINT_SHARE = 0.2  # of the target that they add at least


class Measured(NamedTuple):
    """One node set. `search` and `unseen` are the measure in these cells, `low` and `high` its 95% bootstrap
    interval in the unseen ones, `closeness` is 1 − |circuit − full| / |empty − full| there (without unseen
    cells: in those of the search). `reached`: it keeps what was asked of it in the cells of the search.
    `whole`: the target under the set over the target with all features, what needs no feature included, with
    its interval; None where the target itself is next to nothing."""

    size: int
    reached: bool
    search: float
    unseen: float | None
    low: float | None
    high: float | None
    closeness: float
    whole: float | None = None
    whole_low: float | None = None
    whole_high: float | None = None


class Added(NamedTuple):
    """What the features add to the target, full − empty: mean over the cells in logits and 95% interval.

    `remains`: the target without any feature over the target with all (None where that is next to nothing).
    `faint`: why a share of so little says little, in words; empty where it does not.
    """

    mean: float
    low: float | None
    high: float | None
    remains: float | None
    faint: tuple[str, ...]


def whole_share(
    value_B: np.ndarray, full_B: np.ndarray, seed: int, donors: Sequence[str] | None = None
) -> tuple[float | None, float | None, float | None]:
    """Σ value / Σ full over the cells with its 95% bootstrap interval (of one cell: none)."""
    if abs(full_B.mean()) < FAINT:
        return None, None, None
    whole = float(value_B.sum() / full_B.sum())
    if len(full_B) < 2:
        return whole, None, None
    return whole, *ratio_interval(one_group(len(full_B), seed, donors), value_B, full_B)


def added_by_features(
    full_B: np.ndarray, empty_B: np.ndarray, seed: int, donors: Sequence[str] | None = None
) -> Added:
    """What features add to the target of some cells, and whether it is enough to speak of shares."""
    added_B = full_B - empty_B
    mean, low, high = float(added_B.mean()), None, None
    if len(added_B) > 1:
        found = one_group(len(added_B), seed, donors).of(added_B[:, None])
        low, high = float(found.low[0]), float(found.high[0])
    remains = None if abs(full_B.mean()) < FAINT else float(empty_B.sum() / full_B.sum())
    whole, varies = abs(float(full_B.mean())), float(added_B.std())
    reasons = {
        f"the features add less than {FAINT:g} logits": abs(mean) < FAINT,
        "they add less than that varies from cell to cell": len(added_B) > 1 and abs(mean) < varies,
        f"they add less than {FAINT_SHARE:.0%} of the target": abs(mean) < FAINT_SHARE * whole,
    }
    return Added(mean, low, high, remains, tuple(words for words, holds in reasons.items() if holds))


def ahead_of(
    value_B: np.ndarray,
    other_B: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray],
    measure: str,
    seed: int,
    donors: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """One set's measure less another's, both of the same cells, with its 95% interval.

    `parts` are empty_B and full_B.
    """
    part_NB, whole_B = kept_parts(np.stack([value_B, other_B]), *parts, measure=measure)
    gap_B = part_NB[0] - part_NB[1]
    found = {"mean": float(gap_B.sum() / whole_B.sum()), "low": None, "high": None}
    if len(whole_B) > 1:
        low, high = ratio_interval(one_group(len(whole_B), seed, donors), gap_B, whole_B)
        found |= {"low": low, "high": high}
    return found
