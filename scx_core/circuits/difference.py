"""What differs between two circuits: between two cell types, two models, two transcoder sets (method §8).

Both are traced for one question, over many cells each; every number of the result is the first less the
second, with an interval over donors or cells, and p and q that both are equal (hypothesis_tests.py).
The same cells under two models or sets are paired: they are drawn together. Features of different sets have
nothing in common but their numbers, so they are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np

from scx_core.attribution.target import TargetPlan, finished_target
from scx_core.circuits.circuit import Circuit, Node, Target
from scx_core.circuits.consensus import ConsensusConfig, Merged, combine, statistics_circuit
from scx_core.circuits.feature_names import NameBook, with_names
from scx_core.circuits.many_cells.two_steps import together
from scx_core.circuits.schema import Misfit, read_object
from scx_core.circuits.trace import TraceConfig
from scx_core.circuits.tracer import CONSENSUS, TRACE, Tracer
from scx_core.display import shown
from scx_core.errors import ScxError
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import two_groups

SIDES = ("A", "B")


class _Parts(TypedDict):
    names: tuple[str, str]
    first: dict[str, Any]
    second: dict[str, Any]
    difference: dict[str, Any]


@shown
class Difference(NamedTuple):
    """Both sides as consensus circuits, and `difference`, whose effects and weights are first less second."""

    names: tuple[str, str]
    first: Circuit
    second: Circuit
    difference: Circuit

    def __repr__(self) -> str:
        n = self.first.n_cells, self.second.n_cells
        return f"<Difference {self.names[0]!r} less {self.names[1]!r}: {n[0]:,} and {n[1]:,} cells>"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return {
            "names": list(self.names),
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "difference": self.difference.to_json(),
        }

    @classmethod
    def from_json(cls, record: Any, name: str = "The record") -> Difference:
        """What `to_json` made. Raises ScxError that names the record and the place."""
        try:
            names = read_object(_Parts, record)["names"]
        except Misfit as misfit:
            raise ScxError(f"{name} is no difference: {misfit}.", "Make it anew.") from None
        sides = {}
        for part, scope in (("first", "consensus"), ("second", "consensus"), ("difference", "difference")):
            sides[part] = Circuit.from_json(record[part], f"{name}, {part}")
            if sides[part].scope != scope:
                problem = f"{name} is no difference: {part} is a circuit of scope {sides[part].scope}."
                raise ScxError(problem, "Make it anew.")
        return cls(names, **sides)


def kept_apart(cells: Sequence[Merged], side: str) -> list[Merged]:
    """The circuits with the ids of their features, and of these alone, marked with the side."""

    def renamed(name: str, node: Node) -> str:
        return f"{side}:{name}" if node.kind in ("feature", "error") else name

    out = []
    for cell in cells:
        nodes = {renamed(name, node): node for name, node in cell.nodes.items()}
        named = {name: node._replace(id=name) for name, node in nodes.items()}
        rows = [
            table._replace(rows=tuple(f"{side}:{name}" for name in table.rows))
            for table in (cell.active, cell.stands, cell.added)
        ]
        out.append(cell._replace(nodes=named, active=rows[0], stands=rows[1], added=rows[2]))
    return out


def named_difference(
    found: Difference, first: NameBook | None, second: NameBook | None, *, same_set: bool
) -> Difference:
    """A difference with the names that an atlas gives the features of each side's set."""
    if same_set:
        gap = with_names(found.difference, first)
    else:
        gap = with_names(with_names(found.difference, first, f"{SIDES[0]}:"), second, f"{SIDES[1]}:")
    return found._replace(
        first=with_names(found.first, first), second=with_names(found.second, second), difference=gap
    )


def difference(
    names: tuple[str, str],
    first: Sequence[Merged],
    second: Sequence[Merged],
    targets: tuple[Target, Target],
    *,
    same_set: bool,
    paired: bool,
    min_share: float,
    seed: int,
    provenance: dict[str, Any],
    donors: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Difference:
    """First less second. `same_set`: both have the same transcoders, so the same features; `paired`: the
    same cells in the same order; `donors` of the cells of both, where they are known."""
    sides = [
        combine(cells, target, min_share, seed, provenance, of)
        for cells, target, of in zip((first, second), targets, donors or (None, None), strict=True)
    ]
    if not same_set:
        first, second = kept_apart(first, SIDES[0]), kept_apart(second, SIDES[1])
    all_donors = [*donors[0], *donors[1]] if donors else None
    sampling = two_groups(len(first), len(second), seed, paired, all_donors)
    label = f"{names[0]} less {names[1]}: {targets[0].label}"
    target = targets[0]._replace(label=label)
    both = [*first, *second]
    found = statistics_circuit("difference", both, sampling, target, min_share, seed, provenance)
    gap = float(np.mean([cell.value for cell in first]) - np.mean([cell.value for cell in second]))
    found = found._replace(target=found.target._replace(value=gap))
    return Difference(names, sides[0], sides[1], found)


def _merged(
    tracers: Sequence[Tracer],
    rows: Sequence[np.ndarray],
    plans: Sequence[TargetPlan],
    names: Sequence[str],
    trace: TraceConfig,
    cfg: ConsensusConfig,
    progress: Progress,
    same_set: bool,
) -> list[list[Merged]]:
    """The cells' circuits of both sides; in two steps where one of the models is large, and then what one
    side shares is traced in the other as well."""
    if not any(one.in_two_steps(cfg) for one in tracers):
        sides = zip(tracers, rows, plans, names, strict=True)
        return [one.merged(at, plan, trace, cfg, progress, name) for one, at, plan, name in sides]
    both = [
        {"model": one.lm.fingerprint, "cells": at.tolist()} for one, at in zip(tracers, rows, strict=True)
    ]
    groups = [
        one.two_steps(at, plan, trace, cfg, progress, beside=both)
        for one, at, plan in zip(tracers, rows, plans, strict=True)
    ]
    return together(groups, same_set)


def compare_types(
    tracer: Tracer,
    first: str,
    second: str,
    *,
    trace: TraceConfig = TRACE,
    cfg: ConsensusConfig = CONSENSUS,
    progress: Progress = silent,
) -> Difference:
    """Cells of the type `first` less cells of the type `second`, both asked whether they are `first` rather
    than `second`. Raises ScxError when the model has one name for both."""
    answers = tracer.answer_for(first), tracer.answer_for(second)
    if answers[0] == answers[1]:
        raise ScxError(
            f"{first} and {second} are both {answers[0]} to the model.", "Choose types that it tells apart."
        )
    plan = tracer.plan(answers[0], [answers[1]], trace.target, trace.token)
    rows = [tracer.draw(label, cfg) for label in (first, second)]
    left, right = _merged(
        (tracer, tracer), (rows[0], rows[1]), (plan, plan), (first, second), trace, cfg, progress, True
    )
    target = finished_target(tracer.lm, plan, None, 0.0)
    found = difference(
        (first, second),
        left,
        right,
        (target, target),
        same_set=True,
        paired=False,
        min_share=cfg.min_share,
        seed=cfg.seed,
        provenance=tracer.about(
            {"trace": to_dict(trace), "consensus": to_dict(cfg)},
            cells={first: rows[0].tolist(), second: rows[1].tolist()},
            compared=[first, second],
            ties=tracer.ties(np.concatenate(rows)),
            **tracer.training_cells(np.concatenate(rows)),
        ),
        donors=_donors(*(tracer.donors(at) for at in rows)),
    )
    return named_difference(found, tracer.names, tracer.names, same_set=True)


def compare_models(
    first: Tracer,
    second: Tracer,
    label: str,
    *,
    trace: TraceConfig = TRACE,
    cfg: ConsensusConfig = CONSENSUS,
    progress: Progress = silent,
) -> Difference:
    """The same cells of one type under two models, or one model with two transcoder sets: first less second.

    Raises ScxError when the tracers do not hold the same cells.
    """
    if first.table.fingerprint != second.table.fingerprint:
        raise ScxError(
            f"{first.table.name} and {second.table.name} are not the same cells.",
            "Compare two models, or two transcoder sets, on one data set.",
        )
    rows, tracers = first.draw(label, cfg), (first, second)
    names = tuple(f"{one.lm.name} / {one.transcoders.name}" for one in tracers)
    plans = [one.plan(one.answer_for(label), None, trace.target, trace.token) for one in tracers]
    same = _same_features(first, second)
    left, right = _merged(tracers, (rows, rows), plans, names, trace, cfg, progress, same)
    targets = [finished_target(one.lm, plan, None, 0.0) for one, plan in zip(tracers, plans, strict=True)]
    about = second.about({})
    found = difference(
        (names[0], names[1]),
        left,
        right,
        (targets[0], targets[1]),
        same_set=same,
        paired=True,
        min_share=cfg.min_share,
        seed=cfg.seed,
        provenance=first.about(
            {"trace": to_dict(trace), "consensus": to_dict(cfg)},
            cells=rows.tolist(),
            cell_type=label,
            compared=list(names),
            ties=first.ties(rows),
            **first.training_cells(rows),
            second={key: about.get(key) for key in ("model", "transcoders")},
        ),
        donors=_donors(first.donors(rows), second.donors(rows)),
    )
    return named_difference(found, first.names, second.names, same_set=same)


def _donors(first: list[str] | None, second: list[str] | None) -> tuple[list[str], list[str]] | None:
    return None if first is None or second is None else (first, second)


def _same_features(first: Tracer, second: Tracer) -> bool:
    """Whether both trace one model through one set: the same in memory, or of one fingerprint."""
    sets = first.transcoders, second.transcoders
    one_set = sets[0] is sets[1] or (sets[0].fingerprint == sets[1].fingerprint != "")
    return one_set and first.lm.fingerprint == second.lm.fingerprint
