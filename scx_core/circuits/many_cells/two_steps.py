"""A consensus of a large model in two steps: effects of all cells, then edges between shared nodes only.

Step 1, a forward and a backward pass a cell: gene effects and the features with the largest total effect, as
many as a cell's circuit would have. Step 2: of these, the features that enough cells share are nodes in every
cell where they were among the largest, and only they get rows of edges; all other sources are there as
before, summed. What a consensus of whole circuits would leave out is not traced.

The same as one step: gene effects and every edge between two shared nodes, to the last bits of float32.
Not the same: influence and the cuts by it, as no path leads through a feature that few cells hold (its
share of the input counts as not explored), and so the share of cells that keeps a node or an edge.
Each cell's result is kept on disk (`kept_cells.py`): a consensus that was stopped goes on there.
Legend: C cells, N chosen features of a cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scx_core.attribution.backward import TotalEffects, total_effects
from scx_core.attribution.local_replacement_model import FrozenPrompt
from scx_core.attribution.node_selection import SelectedFeatures, largest
from scx_core.attribution.target import TargetPlan, frozen_for, target_row
from scx_core.circuits.circuit import GeneEffect
from scx_core.circuits.consensus import ConsensusConfig, Merged, consensus_genes
from scx_core.circuits.many_cells.kept_cells import (
    CellEffects,
    KeptCells,
    merged_record,
    read_effects,
    read_merged,
)
from scx_core.circuits.trace import TraceConfig, graph_of, merged_graph, span_effects
from scx_core.errors import ScxError
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import EncodedCell
from scx_core.statistics.resampling import one_group

if TYPE_CHECKING:
    from scx_core.circuits.tracer import Tracer

LARGE = 8_000_000  # layers × width²: from here on a cell takes tens of seconds and not tenths
STEPS = ("effects", "edges")  # what a message begins with
STEP_2 = 4  # how much longer than an effect a cell's edges are thought to take until one was made


class SoFar(NamedTuple):
    """What is known before a consensus is done: gene effects of the cells whose first step is done, and
    merged circuits of those whose second is."""

    genes: list[GeneEffect]
    merged: list[Merged]
    n_cells: int


Partial = Callable[[SoFar], None]


def is_large(rep_layers: int, width: int) -> bool:
    """Whether a consensus is made in two steps unless one says otherwise."""
    return rep_layers * width**2 >= LARGE


class TwoSteps:
    """One consensus on its way."""

    def __init__(
        self,
        tracer: Tracer,
        rows: np.ndarray,
        plan: TargetPlan,
        trace: TraceConfig,
        cfg: ConsensusConfig,
        kept: KeptCells,
        progress: Progress = silent,
        partial: Partial | None = None,
    ) -> None:
        self.tracer, self.rows, self.trace, self.cfg = tracer, [int(row) for row in rows], trace, cfg
        self.cells = tracer.encode(rows)
        self.plan, self.kept, self.progress, self.partial = plan, kept, progress, partial

    def run(self) -> list[Merged]:
        """The merged circuits in the order of the rows; what was kept is not made again."""
        effects = self.effects()
        return self.edges(effects, self.shared(effects))

    def shared(self, effects: list[CellEffects]) -> set[tuple[int, int]]:
        """Features that enough of the cells share. Raises ScxError where there is none."""
        found = shared_features(effects, self.cfg, self.tracer.donors(self.rows))
        if not found:
            raise ScxError(
                f"No feature is shared by {self.cfg.min_share:.0%} of the cells.",
                "Ask for a lower min_share.",
            )
        return found

    def effects(self) -> list[CellEffects]:
        """Step 1."""
        found: list[CellEffects] = []
        watch = _Watch(len(self.rows), STEP_2 * len(self.rows), 1.0)
        for row, cell in zip(self.rows, self.cells, strict=True):
            one = self.kept.read("effects", row, read_effects)
            if one is None:
                one = self._one_effect(cell)
                self.kept.write("effects", row, one._asdict())
                watch.made()
            else:
                watch.there()
            found.append(one)
            self._tell(len(found), STEPS[0], watch, found, [])
        return found

    def _one_effect(self, cell: EncodedCell) -> CellEffects:
        frozen = frozen_for(self.tracer.rep, cell, self.plan)
        target, target_bias, _ = target_row(frozen, self._in_cell(cell)[0])
        effects = total_effects(frozen, target, target_bias)
        chosen = largest(frozen, effects.features, self.cfg.nodes)
        genes = {gene.gene: (gene.effect, gene.rank) for gene in span_effects(effects.token_T, cell.spans)}
        return CellEffects(genes, tuple(map(tuple, torch.stack(tuple(chosen), 1).tolist())))

    def edges(self, effects: list[CellEffects], shared: set[tuple[int, int]]) -> list[Merged]:
        """Step 2."""
        found: list[Merged] = []
        watch = _Watch(0, len(self.rows), None)
        there = [self.kept.read("edges", row, read_merged) for row in self.rows]
        scores = {name for one in there if one is not None for name in one.scores}
        for row, cell, of_cell, one in zip(self.rows, self.cells, effects, there, strict=True):
            if one is None or one.scores.keys() != scores:  # a score that others have was lost
                one = self._one_graph(cell, of_cell, shared)
                self.kept.write("edges", row, merged_record(one))
                watch.made()
            else:
                watch.there()
            found.append(one)
            self._tell(len(self.rows) + len(found), STEPS[1], watch, effects, found)
        return found

    def _one_graph(self, cell: EncodedCell, of_cell: CellEffects, shared: set[tuple[int, int]]) -> Merged:
        plan, called = self._in_cell(cell)
        nodes = [row for row in of_cell.chosen if (row[0], row[3]) in shared]

        def choose(frozen: FrozenPrompt, effects: TotalEffects) -> SelectedFeatures:
            columns = torch.tensor(nodes, dtype=torch.int64, device=frozen.embedding_Td.device)
            return SelectedFeatures(*columns.view(-1, 4).T.contiguous().unbind(0))

        graph = graph_of(frozen_for(self.tracer.rep, cell, plan), plan, len(nodes), choose, called)
        return merged_graph(graph, cell, self.trace)

    def _in_cell(self, cell: EncodedCell) -> tuple[TargetPlan, bool | None]:
        return self.tracer.plans_in_cells([cell], self.plan)[0]

    def _tell(
        self,
        done: int,
        step: str,
        watch: _Watch,
        effects: Sequence[CellEffects],
        merged: list[Merged],
    ) -> None:
        number = len(merged) or len(effects)
        self.progress(done, 2 * len(self.rows), f"{step}, cell {number} of {len(self.rows)}{watch.left()}")
        if self.partial is not None and len(effects) > 1:
            genes = consensus_genes(
                [one.genes for one in effects],
                one_group(len(effects), self.cfg.seed, self.tracer.donors(self.rows[: len(effects)])),
            )
            self.partial(SoFar(genes, merged, len(self.rows)))


def together(groups: Sequence[TwoSteps], same_features: bool) -> list[list[Merged]]:
    """Groups of cells that are compared: what one of them shares is traced in all, where they have the same
    features, so that a feature of one group is not missing in the other for want of tracing."""
    effects = [group.effects() for group in groups]
    shared = [group.shared(of) for group, of in zip(groups, effects, strict=True)]
    if same_features:
        shared = [set().union(*shared)] * len(shared)
    return [group.edges(of, own) for group, of, own in zip(groups, effects, shared, strict=True)]


class _Watch:
    """Time left, from what cells took that were made and not read."""

    def __init__(self, cells: int, later: float, weight: float | None) -> None:
        self.start, self.n_made, self.todo = time.monotonic(), 0, cells if weight else later
        self.later = later if weight else 0.0

    def made(self) -> None:
        """A cell was made."""
        self.n_made += 1
        self.todo -= 1

    def there(self) -> None:
        """A cell was there already."""
        self.todo -= 1
        if not self.n_made:
            self.start = time.monotonic()

    def left(self) -> str:
        """Words behind a message; none until a cell was made."""
        if not self.n_made:
            return ""
        seconds = (time.monotonic() - self.start) / self.n_made * (self.todo + self.later)
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"


def shared_features(
    effects: Sequence[CellEffects], cfg: ConsensusConfig, donors: Sequence[str] | None = None
) -> set[tuple[int, int]]:
    """Features (layer, number) among the largest of enough cells, as the share of a node is counted."""
    of_cells = [{(row[0], row[3]) for row in one.chosen} for one in effects]
    names = sorted(set().union(*of_cells))
    held_CN = np.array([[name in own for name in names] for own in of_cells], dtype=bool)
    share_N = one_group(len(effects), cfg.seed, donors).share(held_CN)
    # a share is a sum of 1/n: without the margin, 3 of 10 cells would be less than 0.3
    return {
        name for name, share in zip(names, share_N.tolist(), strict=True) if share >= cfg.min_share - 1e-9
    }
