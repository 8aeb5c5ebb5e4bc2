"""How many features keep the same share of the real model's answer, searched alike for every set.

Sets differ in what is left without their features (an affine path goes on, constants do not) and in what
they reach with all of them. So one scale holds for all: 0 is the target with the output of every MLP at its
mean over reference cells at the same place of the prompt, 1 is the target of the real model. A set's own
features at the same reference give `alone`, all of them as they are `whole`; the search (circuit_search.py)
looks for the fewest that reach the wanted share. Attention and norms answer to what is kept, in every set.
Legend: B cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import Tracer
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.rivals.stand_ins import outputs_set
from scx_core.evidence.smallest.circuit_search import Prefixes, SearchConfig, rank, solve
from scx_core.evidence.smallest.faithfulness import FaithfulnessProblem, feature_contribution
from scx_core.evidence.smallest.smallest_circuit import NO_DIFFERENCE, CellSplits
from scx_core.statistics.resampling import MeanInterval, one_group, ratio_interval


class Scale(NamedTuple):
    """The target that counts as 0 and as 1 in each cell, in the unit of the target [B]."""

    empty_B: np.ndarray
    full_B: np.ndarray


class Sufficient(NamedTuple):
    """One set's fewest features. `size` is None where no set of them reached the wanted share in the cells of
    the search, or there are no features; `share` is theirs in the unseen cells (without any: that of all).
    `alone`, `whole`: without and with all features, in the unseen cells."""

    size: int | None
    search: float
    share: MeanInterval
    alone: MeanInterval
    whole: MeanInterval


class SufficiencySettings(NamedTuple):
    """The wanted share, how much more the search asks for, and how it goes on."""

    wanted: float
    margin: float
    gradient_cells: int
    search: SearchConfig
    seed: int


class SharedCells:
    """Cells of one type and its target, with the scale that all sets are measured on."""

    def __init__(
        self, tracer: Tracer, plan: TargetPlan, cells: CellSplits, settings: SufficiencySettings
    ) -> None:
        self.tracer, self.plan, self.cells, self.settings = tracer, plan, cells, settings
        self.cfg = InterventionConfig()
        tried = self._tried(tracer, outputs_set(tracer.lm))
        self.scales = tuple(Scale(one.empty_B, one.full_B) for one in tried)
        self.sampling = one_group(len(cells.unseen), settings.seed, tracer.donors(cells.unseen))

    def _tried(self, tracer: Tracer, coders) -> tuple[Intervention, Intervention]:
        """Interventions in the cells of the search, and in the unseen ones."""
        lm = tracer.lm
        reference = reference_of(lm, coders, self.plan, tracer.encode(self.cells.reference), self.cfg)
        search, unseen = (
            Intervention(lm, coders, self.plan, tracer.encode(rows), reference, self.cfg)
            for rows in (self.cells.search, self.cells.unseen)
        )
        return search, unseen

    @property
    def faint(self) -> tuple[str, ...]:
        """Why shares of what the MLPs' outputs add to the target of the unseen cells say little, in words."""
        empty_B, full_B = self.scales[1]
        donors = self.tracer.donors(self.cells.unseen)
        return feature_contribution(full_B, empty_B, self.settings.seed, donors).faint

    def share(self, value_B: np.ndarray) -> MeanInterval:
        """Σ (value − empty) / Σ (full − empty) over the unseen cells, and its interval."""
        empty_B, full_B = self.scales[1]
        low, high = ratio_interval(self.sampling, value_B - empty_B, full_B - empty_B)
        return MeanInterval(float((value_B - empty_B).sum() / (full_B - empty_B).sum()), low, high)

    def sufficient(self, tracer: Tracer) -> Sufficient:
        """The fewest features of a tracer's set that keep the wanted share."""
        coders, settings = tracer.rep.transcoders, self.settings
        search, unseen = self._tried(tracer, coders)
        alone, whole = self.share(unseen.empty_B), self.share(unseen.full_B)
        problem, measured = (
            FaithfulnessProblem(tried, gradient_cells=settings.gradient_cells, ends=ends)
            for tried, ends in zip((search, unseen), self.scales, strict=True)
        )
        if np.abs(search.full_B - search.empty_B).mean() < NO_DIFFERENCE:  # no feature, or none that matters
            none = float(problem.scores([np.zeros(0, dtype=np.int64)])[0])
            return Sufficient(None, none, alone, alone, alone)
        wanted = settings.wanted + settings.margin
        found = solve(problem, Prefixes(problem, rank(problem)), wanted, settings.search)
        share = self.share(measured.values([found.members])[0])
        return Sufficient(len(found.members) if found.reached else None, found.score, share, alone, whole)
