"""Faithfulness of a node set: its share of what the features add to the target, and of the whole target; the
problem that is searched; and random node sets of the same size and layers, with as much activation.

The two shares differ where much of the target remains without any feature: 0.83 of what the features add can
be 0.95 of the target, of which 0.67 needs no feature at all. Whoever keeps as many features of a layer that
are about as active keeps something too: each node of a random set is one of the nearest to a member by
activation mass (its activation summed over the tokens of the searched cells) in its layer, none twice and
none of the set itself.
Intervals are 95% bootstrap-t over donors where two or more are known, else over cells (resampling.py).
Legend: B cells, N node sets, X candidate nodes, L layers, T positions, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.evidence.interventions import Intervention
from scx_core.language import mlp_io
from scx_core.runs.micro_batch import MicroBatch
from scx_core.statistics.resampling import one_group, ratio_interval

MEASURES = ("share", "closeness")


def faithfulness_terms(
    value_NB: np.ndarray, empty_B: np.ndarray, full_B: np.ndarray, measure: str = "share"
) -> tuple[np.ndarray, np.ndarray]:
    """Numerators [N, B] and denominators [B] of a measure; it is the ratio of their sums over cells.

    `share`: (circuit − empty) / (full − empty), method §9. It may exceed 1, and a cell above its full value
    makes up for one below. `closeness`: 1 − |circuit − full| / |empty − full|. It is the share where no cell
    goes beyond its full value, and less where one does. A mean of the cells' own ratios would be ruled by
    cells that hardly differ from empty.
    """
    if measure == "share":
        return value_NB - empty_B, full_B - empty_B
    whole_B = np.abs(empty_B - full_B)
    return whole_B - np.abs(value_NB - full_B), whole_B


def faithfulness(
    value_NB: np.ndarray, empty_B: np.ndarray, full_B: np.ndarray, measure: str = "share"
) -> np.ndarray:
    """A measure of each node set over all cells, [N]."""
    part_NB, whole_B = faithfulness_terms(value_NB, empty_B, full_B, measure)
    return np.asarray(part_NB.sum(-1) / whole_B.sum())


def faithfulness_interval(
    value_B: np.ndarray,
    empty_B: np.ndarray,
    full_B: np.ndarray,
    seed: int,
    measure: str = "share",
    donors: Sequence[str] | None = None,
) -> tuple[float, float]:
    """95% bootstrap-t interval of one node set's measure, over donors where two or more are known, else over
    cells."""
    part_B, whole_B = faithfulness_terms(value_B, empty_B, full_B, measure)
    return ratio_interval(one_group(len(whole_B), seed, donors), part_B, whole_B)


class FaithfulnessProblem:
    """A `circuit_search.Problem` of (layer, feature) nodes, or (layer, position, feature) of one cell.

    Gradients at a set only propose what is then measured in all cells, so they are taken in every k-th cell,
    at most `gradient_cells`; those that rank all candidates are taken in all. `ends`: the target that counts
    as 0 and as 1 in each cell [B], where it is not that without and with all features: sets of features that
    differ in what is left without them are compared on one scale.
    """

    def __init__(
        self,
        tried: Intervention,
        measure: str = "share",
        by_position: bool = False,
        gradient_cells: int | None = None,
        ends: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        scale: tuple[np.ndarray, np.ndarray] = ends or (tried.empty_B, tried.full_B)
        self.empty_B, self.full_B = scale
        self.tried, self.measure, self.by_position = tried, measure, by_position
        n = tried.n_cells
        self._few = np.unique(np.linspace(0, n - 1, min(n, gradient_cells or n)).round().astype(int))
        layers, features = len(tried.coders.layers), tried.coders.n_features
        self.shape = (layers, tried.length, features) if by_position else (layers, features)

    @property
    def n_candidates(self) -> int:
        """X."""
        return int(np.prod(self.shape))

    def nodes(self, candidates: np.ndarray) -> np.ndarray:
        """Candidate numbers as the rows of a node set, in their order."""
        return np.stack(np.unravel_index(candidates, self.shape), 1)

    def values(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """The target under each set in each cell, [N, B] logits."""
        return self.tried.values([self.nodes(candidates) for candidates in sets])

    def scores(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """The measure of each set, [N]."""
        return faithfulness(self.values(sets), self.empty_B, self.full_B, self.measure)

    def gains(self, members: np.ndarray, level: float = 0.0) -> np.ndarray:
        """d measure / d gate of each candidate, [X], gates of `members` at 1 and all others at `level`."""
        tried = self.tried
        cells = self._few if len(members) else np.arange(tried.n_cells)
        empty_B, full_B = self.empty_B[cells], self.full_B[cells]
        value_B, gain = tried.gains(self.nodes(members), level, self.by_position, cells.tolist())
        _, whole_B = faithfulness_terms(value_B, empty_B, full_B, self.measure)
        slope_B = np.ones(len(value_B))
        if self.measure == "closeness":  # at the full value itself the way there is meant, from empty
            there_B = np.abs(full_B - value_B) < 1e-4 * whole_B
            slope_B = np.sign(np.where(there_B, full_B - empty_B, full_B - value_B))
        return np.asarray(slope_B @ gain.reshape(len(value_B), -1) / whole_B.sum())


FAINT = 0.1  # logits that the features add at least
FAINT_SHARE = 0.2  # of the target that they add at least


class MeasuredSet(NamedTuple):
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


class FeatureContribution(NamedTuple):
    """What the features add to the target, full − empty: mean over the cells in logits and 95% interval.

    `remains`: the target without any feature over the target with all (None where that is next to nothing).
    `faint`: why a share of so little says little, in words; empty where it does not.
    """

    mean: float
    low: float | None
    high: float | None
    remains: float | None
    faint: tuple[str, ...]


def share_of_target(
    value_B: np.ndarray, full_B: np.ndarray, seed: int, donors: Sequence[str] | None = None
) -> tuple[float | None, float | None, float | None]:
    """Σ value / Σ full over the cells with its 95% bootstrap interval (of one cell: none)."""
    if abs(full_B.mean()) < FAINT:
        return None, None, None
    whole = float(value_B.sum() / full_B.sum())
    if len(full_B) < 2:
        return whole, None, None
    return whole, *ratio_interval(one_group(len(full_B), seed, donors), value_B, full_B)


def feature_contribution(
    full_B: np.ndarray, empty_B: np.ndarray, seed: int, donors: Sequence[str] | None = None
) -> FeatureContribution:
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
    return FeatureContribution(
        mean, low, high, remains, tuple(words for words, holds in reasons.items() if holds)
    )


def advantage(
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
    part_NB, whole_B = faithfulness_terms(np.stack([value_B, other_B]), *parts, measure=measure)
    gap_B = part_NB[0] - part_NB[1]
    found = {"mean": float(gap_B.sum() / whole_B.sum()), "low": None, "high": None}
    if len(whole_B) > 1:
        low, high = ratio_interval(one_group(len(whole_B), seed, donors), gap_B, whole_B)
        found |= {"low": low, "high": high}
    return found


NEAR = 20  # so many of the nearest by mass are drawn from


@torch.no_grad()
def activation_mass(problem: FaithfulnessProblem) -> np.ndarray:
    """Sum over a problem's cells of each candidate's |activation| in the original model, float64 [X]."""
    tried = problem.tried
    ids_BT, mask_BT = tried.prompts.ids_BT, tried.prompts.mask_BT
    mass = np.zeros(problem.shape)
    over = 0 if len(problem.shape) == 3 else (0, 1)

    def attempt(some: slice) -> np.ndarray:
        inputs = mlp_io(tried.lm, ids_BT[some], mask_BT[some]).inputs
        rows = [
            (coder.encode(x_BTd) * mask_BT[some, :, None]).abs().sum(over).double().cpu().numpy()
            for coder, x_BTd in zip(tried.coders.layers, inputs, strict=True)
        ]
        return np.stack(rows)

    for some in MicroBatch().pieces(attempt, tried.n_cells, tried.cfg.rows):
        mass += some
    return mass.ravel()


def matched_sets(
    members: np.ndarray, mass_X: np.ndarray, layers: int, draws: int, seed: int
) -> list[np.ndarray]:
    """`draws` sets of candidates as large as `members`, layer by layer of about the same mass; ascending.

    A layer with too few other active candidates gives fewer.
    """
    drawn_DM = matched_orders(members, mass_X, layers, draws, seed)
    return [np.sort(drawn_M[drawn_M >= 0]) for drawn_M in drawn_DM]


def matched_orders(members: np.ndarray, mass_X: np.ndarray, layers: int, draws: int, seed: int) -> np.ndarray:
    """A random candidate for each member, of its layer and of about its mass, in the order of the members,
    int [draws, M]: the first k of a row are matched with the first k members. −1 where a layer has too few
    other active candidates."""
    rng, size = np.random.default_rng(seed), len(mass_X) // layers
    out_DM = np.full((draws, len(members)), -1, dtype=np.int64)
    for drawn_M in out_DM:
        free_X = mass_X > 0
        free_X[members] = False
        for place, node in enumerate(members.tolist()):
            first = node // size * size
            at = first + np.flatnonzero(free_X[first : first + size])
            if not len(at):
                continue
            nearest = at[np.argsort(np.abs(np.log(mass_X[at] / max(mass_X[node], 1e-9))), kind="stable")]
            drawn_M[place] = int(rng.choice(nearest[:NEAR]))
            free_X[drawn_M[place]] = False
    return out_DM
