"""The smallest circuit of a cell type that keeps a wanted share of the target under real intervention (§9).

The phases, in order:
 1. draw cells: some that the search sees, others of the type that it does not see, and cells of the other
    types, whose mean is the reference; no cell is in two groups;
 2. search on the first group (circuit_search.py) for the fewest (layer, feature) nodes that keep the share;
 3. set beside it, measured by the same interventions in the same cells: the influence cut, stricter and wider
    (graph_baselines.py), the search's set for the share that each cut recovers, and plain greedy for all of
    these: the shortest prefix of an order by influence or by |total effect|, whichever is shorter;
 4. measure every set once more in the cells that nothing above has seen, and random sets of the same size,
    layers and activation (faithfulness.py) beside the search's.
Legend: B cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan, finished_target
from scx_core.circuits.consensus import ConsensusConfig
from scx_core.circuits.feature_names import name_in, sourced
from scx_core.circuits.trace import TraceConfig
from scx_core.circuits.tracer import Tracer
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.smallest.circuit_search import FoundSet, Prefixes, SearchConfig, rank, solve
from scx_core.evidence.smallest.faithfulness import (
    MEASURES,
    FaithfulnessProblem,
    FeatureContribution,
    MeasuredSet,
    activation_mass,
    advantage,
    faithfulness,
    faithfulness_interval,
    feature_contribution,
    matched_sets,
    share_of_target,
)
from scx_core.evidence.smallest.graph_baselines import graph_scores_of, greedy_orders, influence_cut
from scx_core.runs.micro_batch import TooLarge, out_of_memory
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import one_group

LEAST_CELLS = 4


class CellSplits(NamedTuple):
    """Rows of the table, ascending."""

    search: np.ndarray
    unseen: np.ndarray
    reference: np.ndarray


def split_cells(
    tracer: Tracer, label: str, n_search: int, n_unseen: int, n_reference: int, seed: int
) -> CellSplits:
    """Rows for a type: `search` are those that a consensus of so many cells draws, at most half of them all.

    Raises ScxError when the type has too few cells.
    """
    own = np.flatnonzero(tracer.table.labels == label)
    if 0 < len(own) < LEAST_CELLS:
        raise ScxError(
            f"{tracer.table.name} holds {len(own)} cells of the type {label!r}.",
            f"A search and its verification need at least {LEAST_CELLS}.",
        )
    n = max(2, min(n_search, len(own) // 2))
    search = tracer.draw(label, ConsensusConfig(cells=n, seed=seed))
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(own, search))
    return CellSplits(search, np.sort(rest[:n_unseen]), reference_rows(tracer, label, n_reference, seed))


def split_of_cell(tracer: Tracer, row: int, answer: str | None, n_reference: int, seed: int) -> CellSplits:
    """One cell; the reference leaves out its own type (without a label: the type of the answer, if given).

    Raises ScxError when there is no such row.
    """
    if not 0 <= row < tracer.table.n_cells:
        raise ScxError(
            f"There is no cell {row} in {tracer.table.name}.",
            f"Rows run from 0 to {tracer.table.n_cells - 1}.",
        )
    label = str(tracer.table.labels[row]) or answer or ""
    none = np.zeros(0, dtype=np.int64)
    return CellSplits(np.array([row]), none, reference_rows(tracer, label, n_reference, seed))


def reference_rows(tracer: Tracer, label: str, n_cells: int, seed: int) -> np.ndarray:
    """Rows of all types but this one, equally many of each as far as there are."""
    rng, labels = np.random.default_rng(seed), tracer.table.labels
    others = [name for name in tracer.table.types if name != label]
    each = max(1, n_cells // max(1, len(others)))
    rows = [rng.permutation(np.flatnonzero(labels == name))[:each] for name in others]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)


NO_DIFFERENCE = 1e-9  # logits
NOT_COMPARED = "not_compared"  # in the provenance: why the influence cut and greedy are not beside the set
GREEDY = 16  # plain greedy is followed up to so many times the size of the set that was searched
# By kind of influence_cut: names of the cut, and of the search and greedy for what it recovers.
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
    draws: int = option(10, "Random sets of the same size, layers and activation", minimum=1)
    seed: int = option(0, "Seed that draws the cells and the bootstrap", minimum=0)


TRACE, SMALLEST = TraceConfig(), SmallestConfig()
INTERVENTION, SEARCH = InterventionConfig(), SearchConfig()


@shown
class Smallest(NamedTuple):
    """The smallest set found, `nodes`, and what it was compared with.

    A node is (layer, feature) at all positions, or (layer, position, feature) of one cell; the one that is
    missed most comes first. `sizes` and `sets` are by name: `ours`; `greedy` for the same share; the two
    influence cuts and, asked for what each of them recovers, search and greedy again (CUTS); `random`, the
    mean over random sets of the same size, layers and activation. `curve`: (size, measure) of the first nodes
    alone, in the unseen cells. `added`: what the features add to the target there, which all shares are of,
    and what remains without any. `ahead`: measure of `ours` less that of `random`, with its interval, and how
    many sets were drawn. `logits`: means of the target over those cells, `full`, `empty`, and the sd of their
    difference. `cells`: rows of each group. `whose`: `unit`, `kind`, `answer`, `against`, `left_out` and
    `same_target` of the target as in `Target`, and how many (`called`) of the cells that the figures are of
    (`of`) the model gives this answer. `names`: what an atlas
    calls the features of `nodes`.
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
    sets: dict[str, MeasuredSet]
    curve: tuple[tuple[int, float], ...]
    logits: dict[str, float]
    added: FeatureContribution
    ahead: dict[str, float | None]
    unexplored: float | None
    cells: dict[str, tuple[int, ...]]
    whose: dict[str, Any]
    provenance: dict[str, Any]
    names: tuple[str | None, ...] = ()

    def __repr__(self) -> str:
        unseen = "" if self.reached_unseen is None else f", {self.reached_unseen:.2f} in unseen cells"
        return (
            f"<Smallest circuit of {self.label!r}: {counted(len(self.nodes), 'feature')}, "
            f"{self.measure} {self.reached_search:.2f} of {self.wanted:g} wanted{unseen}>"
        )

    @property
    def faint(self) -> bool:
        """Whether the features add so little to the target that a share of it says little."""
        return bool(self.added.faint)

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        sets = {name: one._asdict() for name, one in self.sets.items()}
        added = self.added._asdict() | {"faint": list(self.added.faint)}
        nodes = [list(node) for node in self.nodes]
        return self._asdict() | {"sets": sets, "nodes": nodes, "added": added, "faint": self.faint}


class _Job(NamedTuple):
    """A search that is set up: settings, and the cells as problems (`unseen` is None for one cell alone)."""

    tracer: Tracer
    plan: TargetPlan
    trace: TraceConfig
    cfg: SmallestConfig
    search: SearchConfig
    cells: CellSplits
    seen: FaithfulnessProblem
    unseen: FaithfulnessProblem | None
    progress: Progress


def _compared(job: _Job, prefixes: Prefixes, ours: FoundSet) -> tuple[dict[str, FoundSet], float]:
    """Phase 3: the sets to compare with, and the influence that lies outside the graphs behind the cut."""
    seen, cfg = job.seen, job.cfg
    cells = job.tracer.encode(job.cells.search)
    scores = graph_scores_of(job.tracer.rep, job.plan, cells, seen.shape, cfg.nodes, job.progress)
    orders = [Prefixes(seen, order_X) for order_X in greedy_orders(scores).values()]
    found = {"greedy": _shortest_of(orders, cfg.wanted, largest=GREEDY * len(ours.members))}
    known: FoundSet | None = None
    for kinds, (name, ours_as, greedy_as) in CUTS.items():
        cut = influence_cut(scores, job.trace.node_share, kinds)
        recovered = float(seen.scores([cut])[0])
        found[name] = FoundSet(cut, recovered, True)
        known = found[ours_as] = _ours(job, prefixes, recovered + cfg.margin, known)
        found[greedy_as] = _shortest_of(orders, recovered, largest=GREEDY * len(known.members))
    return found, scores.unexplored


def _ours(job: _Job, prefixes: Prefixes, wanted: float, known: FoundSet | None = None) -> FoundSet:
    return solve(job.seen, prefixes, wanted, job.search, known, job.progress)


def _shortest_of(orders: Sequence[Prefixes], wanted: float, largest: int) -> FoundSet:
    """The smallest prefix of any of the orders; without one, what keeps most."""
    found: list[FoundSet] = []
    for order in orders:
        found.append(order.shortest(wanted, largest))
        if found[-1].reached:
            largest = len(found[-1].members)
    return min(found, key=lambda one: (not one.reached, len(one.members) if one.reached else -one.score))


def _measured(job: _Job, found: FoundSet, value_NB: np.ndarray | None = None) -> MeasuredSet:
    """Phase 4 for one set; `value_NB`: the target under it, or under each of several whose mean counts."""
    problem = job.unseen or job.seen
    tried, cfg = problem.tried, job.cfg
    value_B = (problem.values([found.members]) if value_NB is None else value_NB).mean(0)
    parts = (value_B[None], tried.empty_B, tried.full_B)
    closeness = float(faithfulness(*parts, measure="closeness")[0])
    share = share_of_target(value_B, tried.full_B, cfg.seed, _donors(job))
    at = (len(found.members), found.reached, found.score)
    if job.unseen is None:
        return MeasuredSet(*at, None, None, None, closeness, *share)
    low, high = faithfulness_interval(value_B, *parts[1:], cfg.seed, cfg.measure, _donors(job))
    return MeasuredSet(*at, float(faithfulness(*parts, measure=cfg.measure)[0]), low, high, closeness, *share)


def _donors(job: _Job) -> list[str] | None:
    """Those of the cells that sets are measured in."""
    return job.tracer.donors(job.cells.search if job.unseen is None else job.cells.unseen)


def _random(job: _Job, ours: FoundSet) -> tuple[MeasuredSet, dict[str, float | None]]:
    """Random sets like the found one: their mean, and how far the found one is ahead of it."""
    problem, cfg = job.unseen or job.seen, job.cfg
    layers = len(job.seen.tried.coders.layers)
    sets = matched_sets(ours.members, activation_mass(job.seen), layers, cfg.draws, cfg.seed)
    value_NB = problem.values(sets)
    size = int(np.median([len(one) for one in sets]))
    found = FoundSet(np.zeros(size, dtype=np.int64), float(job.seen.scores(sets).mean()), True)
    parts = (problem.tried.empty_B, problem.tried.full_B)
    each_N = faithfulness(value_NB, *parts, measure=cfg.measure)
    own_B = problem.values([ours.members])[0]
    ahead = advantage(own_B, value_NB.mean(0), parts, cfg.measure, cfg.seed, _donors(job))
    among = {"draws": float(len(sets)), "least": float(each_N.min()), "most": float(each_N.max())}
    return _measured(job, found, value_NB), ahead | among


def _finish(job: _Job, scope: str, label: str) -> Smallest:
    """Phases 2 to 4 of a search that is set up."""
    cfg, prefixes = job.cfg, Prefixes(job.seen, rank(job.seen))
    ours = _ours(job, prefixes, cfg.wanted + cfg.margin)
    found, unexplored, too_large = {"ours": ours}, None, ""
    if cfg.compare:
        try:
            others, unexplored = _compared(job, prefixes, ours)
            found |= others
        except (TooLarge, RuntimeError) as error:  # the result of the search is not thrown away
            if not (isinstance(error, TooLarge) or out_of_memory(error)):
                raise
            too_large = str(error).splitlines()[0][:200]
    sets = {name: _measured(job, one) for name, one in found.items()}
    sets["random"], ahead = _random(job, ours)
    problem, size = job.unseen or job.seen, len(ours.members)
    order = ours.members[np.argsort(-job.seen.gains(ours.members)[ours.members], kind="stable")]
    steps = sorted({*(2**k for k in range(size.bit_length())), size} - {0})
    curve = problem.scores([order[:step] for step in steps]).tolist()
    donors = _donors(job)
    mine, full_B, empty_B = sets["ours"], problem.tried.full_B, problem.tried.empty_B
    logits = {"full": full_B.mean(), "empty": empty_B.mean(), "difference_sd": (full_B - empty_B).std()}
    settings = {"smallest": cfg, "search": job.search, "intervention": problem.tried.cfg, "trace": job.trace}
    nodes, book = job.seen.nodes(order).tolist(), job.tracer.names
    about = job.tracer.about(
        {name: to_dict(one) for name, one in settings.items()},
        seed=cfg.seed,
        intervals=one_group(len(full_B), cfg.seed, donors).note,
    )
    about |= {NOT_COMPARED: too_large} if too_large else {}
    about |= job.tracer.training_cells(job.cells.search if job.unseen is None else job.cells.unseen)
    return Smallest(
        scope,
        label,
        job.plan.label,
        tuple(map(tuple, nodes)),
        cfg.wanted,
        cfg.measure,
        ours.score,
        mine.unseen,
        None if mine.low is None or mine.high is None else (mine.low, mine.high),
        {name: one.size for name, one in sets.items()},
        sets,
        tuple(zip(steps, curve, strict=True)),
        {name: float(value) for name, value in logits.items()},
        feature_contribution(full_B, empty_B, cfg.seed, donors),
        ahead,
        unexplored,
        {name: tuple(rows.tolist()) for name, rows in job.cells._asdict().items()},
        _target_facts(job),
        sourced(about, book),
        tuple(name_in(book, int(node[0]), int(node[-1])) for node in nodes),
    )


def _target_facts(job: _Job) -> dict[str, Any]:
    """Whose answer it is, against whom, and how often the model gives it in the cells of the figures."""
    tracer, plan = job.tracer, job.plan
    rows = job.cells.search if job.unseen is None else job.cells.unseen
    given = [called for _, called in tracer.plans_in_cells(tracer.encode(rows), plan)]
    target = finished_target(tracer.lm, plan, None, 0.0)
    facts = {name: getattr(target, name) for name in ("unit", "kind", "answer", "against")}
    facts |= {"left_out": list(plan.left_out or ()), "same_target": list(plan.same_target)}
    counts = {"called": None if None in given else sum(map(bool, given)), "of": len(given)}
    return facts | {"against": list(target.against)} | counts


def _set_up(
    tracer: Tracer,
    plan: TargetPlan,
    cells: CellSplits,
    by_position: bool,
    settings: tuple[TraceConfig, SmallestConfig, InterventionConfig, SearchConfig],
    progress: Progress,
) -> _Job:
    """Reference, full and empty targets. Raises ScxError when features make no difference to the target."""
    trace, cfg, intervention, search = settings
    lm, coders = tracer.lm, tracer.rep.transcoders
    reference = reference_of(lm, coders, plan, tracer.encode(cells.reference), intervention)

    def problem(rows: np.ndarray) -> FaithfulnessProblem:
        tried = Intervention(lm, coders, plan, tracer.encode(rows), reference, intervention)
        if np.abs(tried.full_B - tried.empty_B).mean() < NO_DIFFERENCE:
            raise ScxError(f"{plan.label}: the features make no difference.", "Choose another target.")
        return FaithfulnessProblem(tried, cfg.measure, by_position, cfg.gradient_cells)

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
    cells = split_cells(tracer, label, cfg.search_cells, cfg.unseen_cells, cfg.reference_cells, cfg.seed)
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
    cells = split_of_cell(tracer, row, label, cfg.reference_cells, cfg.seed)
    answer = label if label is not None else tracer.predict([row])[0]
    plan = tracer.plan(answer, against, trace.target, trace.token)
    job = _set_up(tracer, plan, cells, True, (trace, cfg, intervention, search), progress)
    return _finish(job, "cell", answer)
