"""Differences asked for by name: two cell types, or one cell type under two models or transcoder sets."""

from __future__ import annotations

import numpy as np

from scx_core.attribution.target import finished_target
from scx_core.circuits.config import ConsensusConfig, TraceConfig
from scx_core.circuits.difference import Difference, difference, named_difference
from scx_core.circuits.tracer import CONSENSUS, TRACE, Tracer
from scx_core.errors import ScxError
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent


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
    left, right = (
        tracer.merged(at, plan, trace, cfg, progress, label)
        for at, label in zip(rows, (first, second), strict=True)
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
            cells={label: at.tolist() for at, label in zip(rows, (first, second), strict=True)},
            compared=[first, second],
            ties=tracer.ties(np.concatenate(rows)),
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
    left, right = (
        one.merged(rows, plan, trace, cfg, progress, name)
        for one, plan, name in zip(tracers, plans, names, strict=True)
    )
    targets = [finished_target(one.lm, plan, None, 0.0) for one, plan in zip(tracers, plans, strict=True)]
    about, same = second.about({}), _prints(first) == _prints(second)
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
            second={key: about.get(key) for key in ("model", "transcoders")},
        ),
        donors=_donors(first.donors(rows), second.donors(rows)),
    )
    return named_difference(found, first.names, second.names, same_set=same)


def _donors(first: list[str] | None, second: list[str] | None) -> tuple[list[str], list[str]] | None:
    return None if first is None or second is None else (first, second)


def _prints(tracer: Tracer) -> tuple[str, str, int]:
    unsaved = 0 if tracer.transcoders.fingerprint else id(tracer.transcoders)
    return tracer.lm.fingerprint, tracer.transcoders.fingerprint, unsaved
