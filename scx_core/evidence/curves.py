"""Sufficiency and necessity of a type's circuit over its size, beside matched random features (method §9).

The steps:
 1. the consensus circuit of some cells gives an order: its features by influence, strongest first; behind
    them all others by their |total effect| on the target, mean over the same cells;
 2. in other cells of the type, with every MLP replaced and attention and norms free, the first k of the order
    are kept alone (sufficiency) or put to the reference while all others stay (necessity); the reference is
    the mean over cells of other types at the same place of the prompt, and once zero;
 3. the same with random features in their place: of the same layer and of about the same activation mass,
    node by node, none of the circuit (faithfulness.matched_orders);
 4. share = (circuit − empty) / (full − empty) as a ratio of sums over cells. For necessity the share that is
    lost: (full − without) / (full − empty). The area under a curve is over log2(1 + k), from 0 to the whole
    circuit, divided by the width, so that each doubling of k counts alike. An area is linear in the values of
    each cell, and its interval is that of a ratio of sums over cells or donors (resampling.py).

CPR and CMD are those of MIB (Mueller et al. 2025, arXiv 2504.13151, §3): areas, by trapezoids over the
fraction of all components that is kept (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5 and 1, linear),
under the faithfulness f and between f and 1: CPR = ∫ f(k) dk, higher is better;
CMD = ∫ |1 − f(k)| dk, 0 is best.
MIB counts edges or nodes of the whole model; here a component is a feature of the transcoder set, and the
ablation is the mean reference. The signs of 1 − f are held in the interval of a CMD.
Legend: B cells, N node sets, K sizes, D draws, X candidate nodes (layer × feature), M nodes of the circuit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.backward import total_effects
from scx_core.attribution.local_replacement_model import freeze_many
from scx_core.attribution.target import TargetPlan, plans_in, target_row
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.smallest.faithfulness import (
    FaithfulnessProblem,
    FeatureContribution,
    activation_mass,
    faithfulness,
    faithfulness_terms,
    feature_contribution,
    matched_orders,
)
from scx_core.evidence.smallest.smallest_circuit import NO_DIFFERENCE, split_cells
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.resampling import MeanInterval, Sampling, one_group, ratio_interval

WAYS = ("sufficiency", "necessity")
REFERENCES = {"mean": "place", "zero": "zero"}  # by name: what InterventionConfig calls it
MIB_FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ORDERS = {
    "circuit": "the circuit, then the others by total effect",
    "active": "the most active features first",
    "random": "random features of the circuit's layers and activation, then the others at random",
}


@dataclass(frozen=True)
class CurvesConfig:
    """From which cells the circuit is made, on which its curves are measured, and beside what."""

    circuit_cells: int = option(
        20, "Cells of the type that the circuit is made from, at most half of them", minimum=2
    )
    measured: int = option(12, "Other cells of the type in which the curves are measured", minimum=2)
    reference_cells: int = option(
        36, "Cells of other types, equally many of each, for the reference", minimum=1
    )
    growth: float = option(3.0, "Each size of the circuit is so many times the one before", minimum=1.1)
    order: str = option(
        "influence",
        "The circuit's features come by influence, or by signed effect: those for the answer first",
        choices=("influence", "effect"),
    )
    draws: int = option(10, "Random circuits of the same layers and activation", minimum=2)
    orders: int = option(1, "Random orders of all features beside CPR and CMD; 0: none", minimum=0)
    seed: int = option(0, "Seed that draws cells, random circuits and the bootstrap", minimum=0)


CURVES, TRACE = CurvesConfig(), TraceConfig()


class CurvePoint(NamedTuple):
    """The first `size` features. `share` with its 95% interval, `closeness` (both in faithfulness.py; for
    necessity of what is lost), and the mean, least and most share of the random circuits of this size."""

    size: int
    share: float
    low: float
    high: float
    closeness: float
    random: float
    random_least: float
    random_most: float


class Curve(NamedTuple):
    """One way and one reference. `area` under the shares, `random` mean area of the random circuits, `ahead`
    the difference, cell by cell; `p` that it is 0 (signs turned, or t over donors), `q` over all curves of
    the run (Benjamini-Hochberg); `above`: how many of the `draws` random areas are smaller."""

    way: str
    reference: str
    points: tuple[CurvePoint, ...]
    area: MeanInterval
    random: MeanInterval
    ahead: MeanInterval
    p: float
    above: int
    draws: int
    q: float | None = None

    @property
    def certain(self) -> bool:
        """Whether the circuit is ahead of random ones: q (else p) below 0.05 and the interval above 0."""
        return self.ahead.low > 0 and (self.p if self.q is None else self.q) < 0.05


class OverFractions(NamedTuple):
    """An order of all features: `share` at each of MIB's fractions, CPR and CMD with intervals. For
    `random` the means over the orders drawn."""

    order: str
    share: tuple[float, ...]
    cpr: MeanInterval
    cmd: MeanInterval


@shown
class Curves(NamedTuple):
    """The curves of a type. `n_circuit` of `n_features` features are in the circuit, `nodes` (layer, feature)
    by influence; `logits`: full and empty target (mean of the n cells) by reference; `added`: what the
    features add, and whether it is faint; `cells`: rows by role; `called`: how many of the measured cells
    get this answer from the model."""

    label: str
    answer: str | None
    target: str
    n: int
    units: str
    n_units: int
    called: int | None
    n_circuit: int
    n_features: int
    nodes: tuple[tuple[int, int], ...]
    logits: dict[str, dict[str, float]]
    added: dict[str, FeatureContribution]
    curves: tuple[Curve, ...]
    fractions: tuple[OverFractions, ...]
    cells: dict[str, tuple[int, ...]]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"<Curves of {self.label!r}: {self.n_circuit} of {counted(self.n_features, 'feature')}, "
            f"{counted(self.n, 'unseen cell')}>"
        )

    def of(self, way: str, reference: str = "mean") -> Curve:
        """The curve of this way and reference. Raises KeyError."""
        return {(one.way, one.reference): one for one in self.curves}[way, reference]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        added = {name: one._asdict() | {"faint": list(one.faint)} for name, one in self.added.items()}
        fractions = [
            one._asdict() | {"cpr": one.cpr._asdict(), "cmd": one.cmd._asdict()} for one in self.fractions
        ]
        plain = {"added": added, "fractions": fractions, "nodes": [list(node) for node in self.nodes]}
        return self._asdict() | plain | {"curves": [_curve_json(one) for one in self.curves]}


def _curve_json(one: Curve) -> dict[str, Any]:
    areas = {name: getattr(one, name)._asdict() for name in ("area", "random", "ahead")}
    return one._asdict() | areas | {"points": [p._asdict() for p in one.points], "certain": one.certain}


class _Measured(NamedTuple):
    """A set of cells under one reference, ready for node sets given as candidate numbers."""

    problem: FaithfulnessProblem
    sampling: Sampling
    seed: int
    progress: Progress

    def values(self, sets: Sequence[np.ndarray], removed: bool = False) -> np.ndarray:
        """The target with each set alone, or with all but it, [N, B]."""
        return self.problem.tried.values([self.problem.nodes(one) for one in sets], removed)

    def terms(self, value_NB: np.ndarray, removed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Numerators [N, B] and denominators [B] of the share that is kept, or lost."""
        tried = self.problem.tried
        part_NB, whole_B = faithfulness_terms(value_NB, tried.empty_B, tried.full_B)
        return (whole_B - part_NB if removed else part_NB), whole_B

    def ratio(self, part_B: np.ndarray, whole_B: np.ndarray) -> MeanInterval:
        """Σ part / Σ whole with its interval."""
        return MeanInterval(
            float(part_B.sum() / whole_B.sum()), *ratio_interval(self.sampling, part_B, whole_B)
        )


def curves_of(
    tracer: Tracer,
    label: str,
    rows: Sequence[int] | None = None,
    *,
    circuit: Circuit | None = None,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    trace: TraceConfig = TRACE,
    cfg: CurvesConfig = CURVES,
    progress: Progress = silent,
) -> Curves:
    """Sufficiency and necessity curves of a type's circuit, with CPR and CMD.

    `circuit`: a consensus circuit (default: traced here, from `cfg.circuit_cells` cells of the type); the
    curves are measured in `rows` (default: `cfg.measured` cells that the circuit was not made from).
    Raises ScxError for a circuit without features, too few cells, rows that the circuit was made from, or a
    target to which the features make no difference.
    """
    split = split_cells(tracer, label, cfg.circuit_cells, cfg.measured, cfg.reference_cells, cfg.seed)
    plan = tracer.plan(answer or tracer.answer_for(label), against, trace.target, trace.token)
    if circuit is None:
        consensus = ConsensusConfig(cells=len(split.search), seed=cfg.seed)
        circuit = tracer.consensus(
            label, answer=answer, against=against, trace=trace, cfg=consensus, progress=progress
        )
    made_from, measured = _rows(tracer, label, circuit, rows, cfg)
    node_M = _circuit_order(tracer, circuit, cfg.order)
    parts = {
        name: _set_up(tracer, plan, measured, split.reference, kind, cfg, progress)
        for name, kind in REFERENCES.items()
    }
    mean = parts["mean"]
    mass_X, layers = activation_mass(mean.problem), len(tracer.rep.transcoders.layers)
    random_DM = matched_orders(node_M, mass_X, layers, cfg.draws, cfg.seed)
    curves = [_curve(part, name, way, node_M, random_DM, cfg) for name, part in parts.items() for way in WAYS]
    order_X = full_order(tracer, plan, made_from, node_M)
    settings = {"curves": to_dict(cfg), "trace": to_dict(trace)}
    found = Curves(
        label=label,
        answer=plan.answer,
        target=plan.label,
        n=len(measured),
        units=mean.sampling.kind,
        n_units=mean.sampling.units_G[0],
        called=_called(tracer, plan, measured),
        n_circuit=len(node_M),
        n_features=len(order_X),
        nodes=tuple((int(a), int(b)) for a, b in mean.problem.nodes(node_M)),
        logits={name: _logits(part) for name, part in parts.items()},
        added=_contributions(parts, cfg.seed, tracer.donors(measured)),
        curves=tuple(curves),
        fractions=_over_fractions(mean, order_X, mass_X, random_DM[: cfg.orders], cfg.seed),
        cells={
            "circuit": tuple(map(int, made_from)),
            "measured": tuple(map(int, measured)),
            "reference": tuple(map(int, split.reference)),
        },
        provenance=tracer.about(settings, seed=cfg.seed, intervals=mean.sampling.note),
    )
    return with_q([found])[0]


def _called(tracer: Tracer, plan: TargetPlan, measured: np.ndarray) -> int | None:
    """Of how many cells the target is the model's answer; None where that is not asked."""
    given = [called for _, called in tracer.plans_in_cells(tracer.encode(measured), plan)]
    return None if None in given else sum(map(bool, given))


def _contributions(
    parts: Mapping[str, _Measured], seed: int, donors: Sequence[str] | None
) -> dict[str, FeatureContribution]:
    """What all features together add to the target, by reference."""
    ends = {name: part.problem.tried for name, part in parts.items()}
    return {name: feature_contribution(one.full_B, one.empty_B, seed, donors) for name, one in ends.items()}


def curves_of_types(
    tracer: Tracer, labels: Sequence[str], *, cfg: CurvesConfig = CURVES, progress: Progress = silent
) -> list[Curves]:
    """`curves_of` for several types, with q over all their curves together."""
    found = []
    for done, label in enumerate(labels):
        progress(done, len(labels), label)
        found.append(curves_of(tracer, label, cfg=cfg, progress=progress))
    return with_q(found)


def with_q(found: Sequence[Curves]) -> list[Curves]:
    """q-values over every curve of every type."""
    q = iter(q_values(np.array([one.p for held in found for one in held.curves])).tolist())
    return [held._replace(curves=tuple(one._replace(q=next(q)) for one in held.curves)) for held in found]


def _rows(
    tracer: Tracer, label: str, circuit: Circuit, rows: Sequence[int] | None, cfg: CurvesConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that the circuit was made from, and those in which it is measured."""
    made_from = np.array(sorted(circuit.provenance.get("cells", [])), dtype=np.int64)
    own = np.setdiff1d(np.flatnonzero(tracer.table.labels == label), made_from)
    if rows is None:
        rows = np.sort(np.random.default_rng(cfg.seed).permutation(own)[: cfg.measured]).tolist()
    both = np.intersect1d(rows, made_from)
    if len(both):
        raise ScxError(
            f"The circuit was made from cell {both[0]}, in which it is to be measured.",
            "Give rows that it has not seen.",
        )
    if len(rows) < 2:
        raise ScxError(
            f"{tracer.table.name} has {len(own)} cells of {label!r} that the circuit was not made from.",
            "Make the circuit from fewer cells.",
        )
    return made_from, np.array(rows, dtype=np.int64)


def _circuit_order(tracer: Tracer, circuit: Circuit, by: str) -> np.ndarray:
    """Candidate numbers of the circuit's features, most influence (or effect) first. Raises ScxError without
    any."""
    found = [node for node in circuit.nodes if node.kind == "feature"]
    if not found:
        raise ScxError("The circuit holds no feature.", "Lower --min-share or raise --nodes.")
    found.sort(key=lambda node: (-getattr(node, by), node.id))
    size = tracer.rep.transcoders.n_features
    return np.array([(node.layer or 0) * size + (node.feature or 0) for node in found], dtype=np.int64)


def full_order(
    tracer: Tracer, plan: TargetPlan, rows: Sequence[int] | np.ndarray, node_M: np.ndarray
) -> np.ndarray:
    """All candidates: `node_M` in its order, then the others by |mean total effect| over the rows, [X]."""
    coders, cells = tracer.rep.transcoders, tracer.encode(rows)
    effect_LF = np.zeros((len(coders.layers), coders.n_features))
    prompts = [plan.prompt_ids(cell) for cell in cells]
    frozen = freeze_many(tracer.rep, prompts, plan.n_logits)
    for prompt, in_cell in zip(frozen, plans_in(tracer.lm, plan, cells), strict=True):
        target, bias, _ = target_row(prompt, in_cell)
        found = total_effects(prompt, target, bias)
        for layer, effect_N in enumerate(found.features):
            at = prompt.layers[layer].feature_N.numpy(force=True)
            np.add.at(effect_LF[layer], at, effect_N.numpy(force=True))
    effect_X = np.abs(effect_LF.ravel())
    effect_X[node_M] = -1.0
    return np.concatenate([node_M, np.argsort(-effect_X, kind="stable")[: len(effect_X) - len(node_M)]])


def _set_up(
    tracer: Tracer,
    plan: TargetPlan,
    rows: np.ndarray,
    others: np.ndarray,
    kind: str,
    cfg: CurvesConfig,
    progress: Progress,
) -> _Measured:
    """Cells under one reference."""
    lm, coders, how = tracer.lm, tracer.rep.transcoders, InterventionConfig(reference=kind)
    reference = reference_of(lm, coders, plan, tracer.encode(others), how)
    tried = Intervention(lm, coders, plan, tracer.encode(rows), reference, how)
    if np.abs(tried.full_B - tried.empty_B).mean() < NO_DIFFERENCE:
        raise ScxError(f"{plan.label}: the features make no difference.", "Choose another target.")
    sampling = one_group(len(rows), cfg.seed, tracer.donors(rows))
    return _Measured(FaithfulnessProblem(tried), sampling, cfg.seed, progress)


def _logits(part: _Measured) -> dict[str, float]:
    tried = part.problem.tried
    return {"full": float(tried.full_B.mean()), "empty": float(tried.empty_B.mean())}


def sizes_of(n: int, growth: float = 2.0) -> list[int]:
    """1 and on by `growth` up to all n; the last step before n is left out where it is nearly n."""
    sizes, size = [1], 1.0
    while (size := max(size + 1, size * growth)) < n / growth**0.25:
        sizes.append(round(size))
    return sizes if n == 1 else [*sizes, n]


def area_weights(sizes: Sequence[int]) -> np.ndarray:
    """Weights [K] of the values at these sizes in the area over log2(1 + size) from 0, where the value is 0,
    to the last size, as a share of the width: the trapezoids' sum."""
    x_K = np.log2(1.0 + np.array([0, *sizes]))
    return _trapezoids(x_K)[1:] / x_K[-1]


def _trapezoids(x_K: np.ndarray) -> np.ndarray:
    """Weights of the values at x in the area by trapezoids."""
    step, weight_K = np.diff(x_K), np.zeros(len(x_K))
    weight_K[:-1] += step / 2
    weight_K[1:] += step / 2
    return weight_K


def _curve(
    part: _Measured, reference: str, way: str, node_M: np.ndarray, random_DM: np.ndarray, cfg: CurvesConfig
) -> Curve:
    """Steps 2 to 4 of one way and one reference."""
    removed, sizes = way == "necessity", sizes_of(len(node_M), cfg.growth)
    value_KB = part.values([node_M[:size] for size in sizes], removed)
    value_DKB = []
    for done, drawn_M in enumerate(random_DM):
        part.progress(done, len(random_DM), f"{way}, reference {reference}: random circuits")
        first = [drawn_M[:size] for size in sizes]
        value_DKB.append(part.values([one[one >= 0] for one in first], removed))
    part_KB, whole_B = part.terms(value_KB, removed)
    random_DKB = part.terms(np.array(value_DKB), removed)[0]
    weight_K = area_weights(sizes)
    own_B, random_DB = weight_K @ part_KB, np.einsum("k,dkb->db", weight_K, random_DKB)
    gap_B = own_B - random_DB.mean(0)
    closeness_K = _closeness(part, value_KB, removed)
    random_DK = random_DKB.sum(-1) / whole_B.sum()
    points = tuple(
        CurvePoint(
            size,
            *part.ratio(part_KB[k], whole_B),
            float(closeness_K[k]),
            *(float(of(random_DK[:, k])) for of in (np.mean, np.min, np.max)),
        )
        for k, size in enumerate(sizes)
    )
    return Curve(
        way,
        reference,
        points,
        part.ratio(own_B, whole_B),
        part.ratio(random_DB.mean(0), whole_B),
        part.ratio(gap_B, whole_B),
        float(p_values(part.sampling, gap_B[:, None], cfg.seed)[0]),
        int((own_B.sum() > random_DB.sum(-1)).sum() if whole_B.sum() > 0 else 0),
        len(random_DM),
    )


def _closeness(part: _Measured, value_KB: np.ndarray, removed: bool) -> np.ndarray:
    """1 − |circuit − full| / |empty − full|; for what is lost, how near the rest comes to empty instead."""
    tried = part.problem.tried
    start_B, end_B = (tried.full_B, tried.empty_B) if removed else (tried.empty_B, tried.full_B)
    return faithfulness(value_KB, start_B, end_B, "closeness")


def _over_fractions(
    part: _Measured, order_X: np.ndarray, mass_X: np.ndarray, random_DM: np.ndarray, seed: int
) -> tuple[OverFractions, ...]:
    """CPR and CMD of the circuit's order and of its rivals."""
    n = len(order_X)
    sizes = [max(1, round(fraction * n)) for fraction in MIB_FRACTIONS]
    rng = np.random.default_rng([seed, 3])
    by_order: dict[str, list[np.ndarray]] = {
        "circuit": [order_X],
        "active": [np.argsort(-mass_X, kind="stable")],
    }
    for drawn_M in random_DM:
        first = drawn_M[drawn_M >= 0]
        rest = rng.permutation(np.setdiff1d(order_X, first))
        by_order.setdefault("random", []).append(np.concatenate([first, rest]))
    found: list[OverFractions] = []
    for name, orders in by_order.items():
        part.progress(len(found), len(by_order), "CPR and CMD")
        found.append(_fractions_of(part, name, orders, sizes))
    return tuple(found)


def _fractions_of(
    part: _Measured, name: str, orders: Sequence[np.ndarray], sizes: Sequence[int]
) -> OverFractions:
    """Faithfulness at MIB's fractions, and the two areas; f(1) = 1 needs no pass."""
    tried = part.problem.tried
    terms = []
    for order_X in orders:
        value_KB = np.concatenate([part.values([order_X[:size] for size in sizes[:-1]]), tried.full_B[None]])
        terms.append(part.terms(value_KB)[0])
    part_OKB, whole_B = np.array(terms), tried.full_B - tried.empty_B
    share_OK = part_OKB.sum(-1) / whole_B.sum()
    weight_K = _trapezoids(np.array(MIB_FRACTIONS))
    sign_OK = np.sign(1.0 - share_OK)
    missed_OKB = sign_OK[:, :, None] * (whole_B - part_OKB)
    cpr = part.ratio(np.einsum("k,okb->b", weight_K, part_OKB) / len(orders), whole_B)
    cmd = part.ratio(np.einsum("k,okb->b", weight_K, missed_OKB) / len(orders), whole_B)
    shares = tuple(float(one) for one in share_OK.mean(0))
    return OverFractions(name, shares, cpr, cmd._replace(low=max(0.0, cmd.low)))
