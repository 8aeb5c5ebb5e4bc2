"""The smallest circuit of a cell type that keeps a wanted share of the target under real intervention (§9).

The phases, in order:
 1. draw cells (groups.py): some that the search sees, others of the type that it does not see, and cells of
    the other types, whose mean is the reference; no cell is in two groups;
 2. search on the first group (search.py) for the fewest (layer, feature) nodes that keep the wanted share;
 3. set beside it, measured by the same interventions in the same cells: the influence cut, stricter and wider
    (baselines.py), the search's set for the share that each cut recovers, and plain greedy for all of these:
    the shortest prefix of an order by influence or by |total effect|, whichever is shorter;
 4. measure every set once more in the cells that nothing above has seen.
Legend: B cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits.api import Tracer
from scx_core.circuits.baselines import graph_scores_of, greedy_orders, influence_cut
from scx_core.circuits.config import TraceConfig
from scx_core.circuits.groups import Groups, draw_groups, groups_of_cell
from scx_core.circuits.intervention import Intervention
from scx_core.circuits.kept import MEASURES, KeptProblem, kept, kept_interval
from scx_core.circuits.reference import InterventionConfig, reference_of
from scx_core.circuits.search import Found, Prefixes, SearchConfig, rank, solve
from scx_core.circuits.target import TargetPlan
from scx_core.errors import ScxError
from scx_core.runs.config import option, to_dict
from scx_core.runs.progress import Progress, silent

NO_DIFFERENCE = 1e-9  # logits
FAINT = 0.1  # logits
GREEDY = 16  # plain greedy is followed up to so many times the size of the set that was searched
# The kinds of baselines.influence_cut: names of the cut, and of the search and greedy for what it recovers.
CUTS = {
    "features": ("influence_cut", "ours_as_cut", "greedy_as_cut"),
    "all": ("strict_cut", "ours_as_strict_cut", "greedy_as_strict_cut"),
}


@dataclass(frozen=True)
class SmallestConfig:
    """What the set must keep, in which cells, and what it is compared with."""

    wanted: float = option(
        0.8, "Share of the difference between full and empty circuit to keep", minimum=0.0, maximum=1.0
    )
    measure: str = option(
        "share",
        "The mean share, or closeness, in which a cell beyond its full value counts as a miss",
        choices=MEASURES,
    )
    margin: float = option(
        0.01,
        "Keep this much more in the cells of the search, for the cells that it does not see",
        minimum=0.0,
    )
    search_cells: int = option(20, "Cells of the type that the search sees", minimum=2)
    gradient_cells: int = option(10, "Of them, those in which gradients propose changes", minimum=1)
    unseen_cells: int = option(24, "Cells of the type that verify the result", minimum=2)
    reference_cells: int = option(
        36, "Cells of other types, equally many of each, for the reference", minimum=1
    )
    nodes: int = option(4096, "Features a cell of the graphs behind the influence cut", minimum=1)
    compare: bool = option(True, "Measure the influence cut and plain greedy as well")
    seed: int = option(0, "Seed that draws the cells and the bootstrap", minimum=0)


TRACE, SMALLEST = TraceConfig(), SmallestConfig()
INTERVENTION, SEARCH = InterventionConfig(), SearchConfig()


class Measured(NamedTuple):
    """One node set. `search` and `unseen` are the measure in these cells, `low` and `high` its 95% bootstrap
    interval in the unseen ones, `closeness` is 1 − |circuit − full| / |empty − full| there (without unseen
    cells: in those of the search). `reached`: it keeps what was asked of it in the cells of the search."""

    size: int
    reached: bool
    search: float
    unseen: float | None
    low: float | None
    high: float | None
    closeness: float


class Smallest(NamedTuple):
    """The smallest set found, `nodes`, and what it was compared with.

    A node is (layer, feature) at all positions, or (layer, position, feature) of one cell; the one that is
    missed most comes first. `sizes` and `sets` are by name: `ours`; `greedy` for the same share; the two cuts
    of baselines.py and, asked for what each of them recovers, search and greedy again (CUTS). `curve`: (size,
    measure) of the first nodes alone, in the unseen cells. `logits`: means of the target over those cells,
    `full`, `empty`, and the sd of their difference. `cells`: rows of each group.
    """

    scope: str
    label: str
    target: str
    nodes: tuple[tuple[int, ...], ...]
    wanted: float
    measure: str
    reached_search: float
    reached_unseen: float | None
    interval: tuple[float, float] | None
    sizes: dict[str, int]
    sets: dict[str, Measured]
    curve: tuple[tuple[int, float], ...]
    logits: dict[str, float]
    unexplored: float | None
    cells: dict[str, tuple[int, ...]]
    provenance: dict[str, Any]

    @property
    def faint(self) -> bool:
        """Whether the features make so little of the target that a share of it says little: less than
        FAINT logits, or less than the difference varies from cell to cell."""
        made, varies = self.logits["full"] - self.logits["empty"], self.logits.get("difference_sd", 0.0)
        return abs(made) < FAINT or abs(made) < varies  # of one cell the sd is nan: never more

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        sets = {name: one._asdict() for name, one in self.sets.items()}
        return self._asdict() | {"sets": sets, "nodes": [list(node) for node in self.nodes]}


class _Job(NamedTuple):
    """A search that is set up: settings, and the cells as problems (`unseen` is None for one cell alone)."""

    tracer: Tracer
    plan: TargetPlan
    trace: TraceConfig
    cfg: SmallestConfig
    search: SearchConfig
    cells: Groups
    seen: KeptProblem
    unseen: KeptProblem | None
    progress: Progress


def _compared(job: _Job, prefixes: Prefixes, ours: Found) -> tuple[dict[str, Found], float]:
    """Phase 3: the sets to compare with, and the influence that lies outside the graphs behind the cut."""
    seen, cfg = job.seen, job.cfg
    cells = job.tracer.encode(job.cells.search)
    scores = graph_scores_of(job.tracer.rep, job.plan, cells, seen.shape, cfg.nodes, job.progress)
    orders = [Prefixes(seen, order_X) for order_X in greedy_orders(scores).values()]
    found = {"greedy": _shortest_of(orders, cfg.wanted, largest=GREEDY * len(ours.kept))}
    known: Found | None = None
    for kinds, (name, ours_as, greedy_as) in CUTS.items():
        cut = influence_cut(scores, job.trace.node_share, kinds)
        recovered = float(seen.scores([cut])[0])
        found[name] = Found(cut, recovered, True)
        known = found[ours_as] = _ours(job, prefixes, recovered + cfg.margin, known)
        found[greedy_as] = _shortest_of(orders, recovered, largest=GREEDY * len(known.kept))
    return found, scores.unexplored


def _ours(job: _Job, prefixes: Prefixes, wanted: float, known: Found | None = None) -> Found:
    return solve(job.seen, prefixes, wanted, job.search, known, job.progress)


def _shortest_of(orders: Sequence[Prefixes], wanted: float, largest: int) -> Found:
    """The smallest prefix of any of the orders; without one, what keeps most."""
    found: list[Found] = []
    for order in orders:
        found.append(order.shortest(wanted, largest))
        if found[-1].reached:
            largest = len(found[-1].kept)
    return min(found, key=lambda one: (not one.reached, len(one.kept) if one.reached else -one.score))


def _measured(job: _Job, found: Found) -> Measured:
    """Phase 4 for one set."""
    problem = job.unseen or job.seen
    tried = problem.tried
    value_NB = problem.values([found.kept])
    parts = (value_NB, tried.empty_B, tried.full_B)
    closeness = float(kept(*parts, measure="closeness")[0])
    if job.unseen is None:
        return Measured(len(found.kept), found.reached, found.score, None, None, None, closeness)
    low, high = kept_interval(value_NB[0], *parts[1:], job.cfg.seed, job.cfg.measure)
    unseen = float(kept(*parts, measure=job.cfg.measure)[0])
    return Measured(len(found.kept), found.reached, found.score, unseen, low, high, closeness)


def _finish(job: _Job, scope: str, label: str) -> Smallest:
    """Phases 2 to 4 of a search that is set up."""
    cfg, prefixes = job.cfg, Prefixes(job.seen, rank(job.seen))
    ours = _ours(job, prefixes, cfg.wanted + cfg.margin)
    found, unexplored = {"ours": ours}, None
    if cfg.compare:
        others, unexplored = _compared(job, prefixes, ours)
        found |= others
    sets = {name: _measured(job, one) for name, one in found.items()}
    problem, size = job.unseen or job.seen, len(ours.kept)
    order = ours.kept[np.argsort(-job.seen.gains(ours.kept)[ours.kept], kind="stable")]
    steps = sorted({*(2**k for k in range(size.bit_length())), size} - {0})
    curve = problem.scores([order[:step] for step in steps]).tolist()
    mine, full_B, empty_B = sets["ours"], problem.tried.full_B, problem.tried.empty_B
    logits = {"full": full_B.mean(), "empty": empty_B.mean(), "difference_sd": (full_B - empty_B).std()}
    settings = {"smallest": cfg, "search": job.search, "intervention": problem.tried.cfg, "trace": job.trace}
    return Smallest(
        scope,
        label,
        job.plan.label,
        tuple(map(tuple, job.seen.nodes(order).tolist())),
        cfg.wanted,
        cfg.measure,
        ours.score,
        mine.unseen,
        None if mine.low is None or mine.high is None else (mine.low, mine.high),
        {name: one.size for name, one in sets.items()},
        sets,
        tuple(zip(steps, curve, strict=True)),
        {name: float(value) for name, value in logits.items()},
        unexplored,
        {name: tuple(rows.tolist()) for name, rows in job.cells._asdict().items()},
        job.tracer.about({name: to_dict(one) for name, one in settings.items()}, seed=cfg.seed),
    )


def _set_up(
    tracer: Tracer,
    plan: TargetPlan,
    cells: Groups,
    by_position: bool,
    settings: tuple[TraceConfig, SmallestConfig, InterventionConfig, SearchConfig],
    progress: Progress,
) -> _Job:
    """Reference, full and empty targets. Raises ScxError when features make no difference to the target."""
    trace, cfg, intervention, search = settings
    lm, coders = tracer.lm, tracer.rep.transcoders
    reference = reference_of(lm, coders, plan, tracer.encode(cells.reference), intervention)

    def problem(rows: np.ndarray) -> KeptProblem:
        tried = Intervention(lm, coders, plan, tracer.encode(rows), reference, intervention)
        if np.abs(tried.full_B - tried.empty_B).mean() < NO_DIFFERENCE:
            raise ScxError(f"{plan.label}: the features make no difference.", "Choose another target.")
        return KeptProblem(tried, cfg.measure, by_position, cfg.gradient_cells)

    unseen = problem(cells.unseen) if len(cells.unseen) else None
    return _Job(tracer, plan, trace, cfg, search, cells, problem(cells.search), unseen, progress)


def smallest(
    tracer: Tracer,
    label: str,
    *,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    trace: TraceConfig = TRACE,
    cfg: SmallestConfig = SMALLEST,
    intervention: InterventionConfig = INTERVENTION,
    search: SearchConfig = SEARCH,
    progress: Progress = silent,
) -> Smallest:
    """The smallest set of (layer, feature) nodes that keeps the wanted share in cells of a type.

    `answer` is the model's label to explain (default: the type itself, or what the model calls its cells);
    of `trace`, the target and `node_share` count, at which the influence cut is made. Raises ScxError when
    there are too few cells or the features make no difference to the target.
    """
    cells = draw_groups(tracer, label, cfg.search_cells, cfg.unseen_cells, cfg.reference_cells, cfg.seed)
    plan = tracer.plan(answer or tracer.answer_for(label), against, trace.target, trace.token)
    job = _set_up(tracer, plan, cells, False, (trace, cfg, intervention, search), progress)
    return _finish(job, "type", label)


def smallest_in_cell(
    tracer: Tracer,
    row: int,
    *,
    label: str | None = None,
    against: Sequence[str] | None = None,
    trace: TraceConfig = TRACE,
    cfg: SmallestConfig = SMALLEST,
    intervention: InterventionConfig = INTERVENTION,
    search: SearchConfig = SEARCH,
    progress: Progress = silent,
) -> Smallest:
    """The smallest set of (layer, position, feature) nodes that keeps the wanted share in one cell.

    Without a label, the one that the model gives this cell is explained. No cell verifies it: positions mean
    nothing in another one. Raises ScxError when the row or the label does not exist.
    """
    cells = groups_of_cell(tracer, row, label, cfg.reference_cells, cfg.seed)
    answer = label if label is not None else tracer.predict([row])[0]
    plan = tracer.plan(answer, against, trace.target, trace.token)
    job = _set_up(tracer, plan, cells, True, (trace, cfg, intervention, search), progress)
    return _finish(job, "cell", answer)
