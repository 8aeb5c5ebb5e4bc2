"""How much of the target a node set keeps: two measures, their intervals, and the problem that is searched.

Legend: B cells, N node sets, X candidate nodes, L layers, T positions, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scx_core.evidence.interventions import Intervention
from scx_core.statistics.resampling import one_group, ratio_interval

MEASURES = ("share", "closeness")


def kept_parts(
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


def kept(value_NB: np.ndarray, empty_B: np.ndarray, full_B: np.ndarray, measure: str = "share") -> np.ndarray:
    """A measure of each node set over all cells, [N]."""
    part_NB, whole_B = kept_parts(value_NB, empty_B, full_B, measure)
    return np.asarray(part_NB.sum(-1) / whole_B.sum())


def kept_interval(
    value_B: np.ndarray,
    empty_B: np.ndarray,
    full_B: np.ndarray,
    seed: int,
    measure: str = "share",
    donors: Sequence[str] | None = None,
) -> tuple[float, float]:
    """95% bootstrap-t interval of one node set's measure, over donors where two or more are known, else over
    cells."""
    part_B, whole_B = kept_parts(value_B, empty_B, full_B, measure)
    return ratio_interval(one_group(len(whole_B), seed, donors), part_B, whole_B)


class KeptProblem:
    """Nodes of cells as a `search.Problem`: (layer, feature), or (layer, position, feature) of one cell.

    Gradients at a set only propose what is then measured in all cells, so they are taken in every k-th cell,
    at most `gradient_cells`; those that rank all candidates are taken in all.
    """

    def __init__(
        self,
        tried: Intervention,
        measure: str = "share",
        by_position: bool = False,
        gradient_cells: int | None = None,
    ) -> None:
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
        return kept(self.values(sets), self.tried.empty_B, self.tried.full_B, self.measure)

    def gains(self, kept: np.ndarray, level: float = 0.0) -> np.ndarray:
        """d measure / d gate of each candidate, [X], gates of `kept` at 1 and all others at `level`."""
        tried = self.tried
        cells = self._few if len(kept) else np.arange(tried.n_cells)
        empty_B, full_B = tried.empty_B[cells], tried.full_B[cells]
        value_B, gain = tried.gains(self.nodes(kept), level, self.by_position, cells.tolist())
        _, whole_B = kept_parts(value_B, empty_B, full_B, self.measure)
        slope_B = np.ones(len(value_B))
        if self.measure == "closeness":  # at the full value itself the way there is meant, from empty
            there_B = np.abs(full_B - value_B) < 1e-4 * whole_B
            slope_B = np.sign(np.where(there_B, full_B - empty_B, full_B - value_B))
        return np.asarray(slope_B @ gain.reshape(len(value_B), -1) / whole_B.sum())
