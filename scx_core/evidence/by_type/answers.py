"""Answers that are found again: of any question by what was asked, and those on features that a report holds.

What the command line asked, a notebook or the page finds, and the other way round: the key is made here for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.feature_edits import EDITS, EditConfig, edit_features
from scx_core.evidence.redundancy import REDUNDANCY, RedundancyConfig, redundancy_of
from scx_core.runs.cached_results import cached
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, nested, silent

MODES = ("steer", "ablate")  # edits of a report


def answered(
    question: str,
    tracer: Tracer,
    config: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
    runs: Path | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """The JSON of a question, from the runs folder where the same was asked of the same model, set and cells.
    `config`: all that is asked; the cells' choices and the candidate answers are added."""
    told = {"choices": str(getattr(tracer.table, "choices", "")), "labels": tracer.labels}
    return cached(question, tracer.about(dict(config) | told), make, runs=runs, again=again)


def edits_answer(
    tracer: Tracer,
    label: str,
    *,
    mode: str = "steer",
    features: Sequence[tuple[int, int]] | None = None,
    doses: Sequence[float] | None = None,
    source: str | int | None = None,
    answer: str | None = None,
    cfg: EditConfig = EDITS,
    runs: Path | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """`feature_edits.edit_features`, found again."""
    asked: dict[str, Any] = {"mode": mode, "features": features, "doses": doses}
    asked |= {"source": source, "answer": answer}

    def make() -> dict[str, Any]:
        return edit_features(tracer, label, **asked, cfg=cfg, progress=progress).to_json()

    return answered("steer", tracer, {"type": label, "edit": to_dict(cfg)} | asked, make, runs, again)


def redundancy_answer(
    tracer: Tracer,
    label: str,
    *,
    answer: str | None = None,
    cfg: RedundancyConfig = REDUNDANCY,
    runs: Path | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """`redundancy.redundancy_of`, found again."""

    def make() -> dict[str, Any]:
        return redundancy_of(tracer, label, answer=answer, cfg=cfg, progress=progress).to_json()

    config = {"type": label, "answer": answer, "redundancy": to_dict(cfg)}
    return answered("redundancy", tracer, config, make, runs, again)


def feature_answers(
    tracer: Tracer, label: str, runs: Path | None = None, progress: Progress = silent
) -> dict[str, str]:
    """Ask what a report says of single features: steering and ablation over doses, redundancy. Returns why
    for each that could not be asked, such as a circuit of too few features."""
    refused = {}
    asked: list[tuple[str, Callable[[Progress], Any]]] = [
        (mode, lambda tell, mode=mode: edits_answer(tracer, label, mode=mode, runs=runs, progress=tell))  # type: ignore[misc]
        for mode in MODES
    ]
    asked.append(("redundancy", lambda tell: redundancy_answer(tracer, label, runs=runs, progress=tell)))
    for done, (name, ask) in enumerate(asked):
        try:
            ask(nested(progress, done, len(asked), f"{label}: {name}"))
        except ScxError as error:
            refused[name] = error.problem
    return refused
