"""A circuit that was asked for: traced once, here or by a job, then kept for all sessions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.jobs import running
from pages.parts.common.results import Column, Memory, table
from pages.parts.common.session import Context
from pages.parts.common.tasks import answer, ask_button, begin, sources, waits
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.difference import Difference
from scx_core.errors import ScxError
from scx_core.runs import Progress, RunFolder, all_jobs, to_dict
from scx_core.tasks import Task
from scx_core.tasks.estimates import circuit_seconds, in_page
from scx_core.tasks.makers import circuit_of, read_circuit, so_far
from scx_core.tasks.task import tracer_task

SOON = 30.0  # seconds of a job that nobody has to ask for
_CIRCUITS: Memory[Circuit | Difference] = Memory(24)
_CALLED: Memory[str] = Memory(256)
_SO_FAR: dict[str, Column] = {
    "gene": ("Gene",),
    "effect": ("Effect (mean)", "%.3f"),
    "low": ("from", "%.3f"),
    "high": ("to", "%.3f"),
    "n": ("Cells with it", "%d"),
}


class Request(NamedTuple):
    """One circuit: `row` is None for a consensus; `against` None for all other types; `less`: the type whose
    circuit is subtracted; `rows`: cells chosen by hand, instead of cells drawn from the type."""

    label: str
    answer: str
    against: str | None
    row: int | None
    trace: TraceConfig
    consensus: ConsensusConfig
    less: str | None = None
    rows: tuple[int, ...] | None = None

    @property
    def competitors(self) -> list[str] | None:
        """`against` as the tracer takes it."""
        return [self.against] if self.against else None


def traced(ctx: Context, request: Request, place: DeltaGenerator) -> Circuit | None:
    """The circuit: remembered, kept by a job, or traced now where that takes a moment. Else None, and its job
    or what starts it is drawn in `place`. Raises ScxError when it cannot be traced."""
    found = _known(ctx, request)
    if found is None and _at_once(ctx, request):
        found = _CIRCUITS.get(_key(ctx, request), lambda: _trace(ctx, request, cell_progress(place)))
        place.empty()
    if found is None:
        with place.container():
            _in_background(ctx, request)
        return None
    return found.difference if isinstance(found, Difference) else found


def sides(ctx: Context, request: Request) -> Difference | None:
    """Both sides of a difference that is there."""
    found = _known(ctx, request)
    return found if isinstance(found, Difference) else None


def asked_of(request: Request) -> dict[str, Any]:
    """The request as a task takes it."""
    kept = ("label", "answer", "against", "row", "less")
    rows = None if request.rows is None else list(request.rows)
    settings = {"trace": to_dict(request.trace), "consensus": to_dict(request.consensus)}
    return {name: getattr(request, name) for name in kept} | {"rows": rows} | settings


def n_cells(request: Request) -> int:
    """How many cells are traced."""
    if request.row is not None:
        return 1
    if request.rows is not None:
        return len(request.rows)
    return request.consensus.cells * (1 if request.less is None else 2)


def _key(ctx: Context, request: Request) -> Hashable:
    asked = request
    if request.row is not None:  # the type and the consensus settings play no part in one cell's circuit
        asked = request._replace(label="", consensus=ConsensusConfig())
    return (*loaders.tracer_key(loaders.tracer(ctx), named=False), asked)


def _known(ctx: Context, request: Request) -> Circuit | Difference | None:
    found = _CIRCUITS.peek(_key(ctx, request))
    if found is None and not _at_once(ctx, request):
        found = answer(_task(ctx, request), read_circuit)
    return found


def _at_once(ctx: Context, request: Request) -> bool:
    tracer = loaders.tracer(ctx)
    long = request.row is None and tracer.in_two_steps(request.consensus)
    return not tracer.transcoders.fingerprint or (not long and in_page(tracer, n_cells(request)))


def _task(ctx: Context, request: Request) -> Task:
    tracer = loaders.tracer(ctx)
    what = f"{request.label} less {request.less}" if request.less else request.label
    cells = "one cell" if request.row is not None else f"{n_cells(request):,} cells"
    found = tracer_task("circuit", f"Circuit of {what}, {cells}", sources(ctx), tracer, asked_of(request))
    return found._replace(
        goes_on=request.row is None and tracer.in_two_steps(request.consensus),
        seconds=circuit_seconds(tracer, n_cells(request), request.less is not None),
    )


def _in_background(ctx: Context, request: Request) -> None:
    """The job, or what starts it. One of less than half a minute starts by itself where no other circuit is
    being traced: nobody has to ask for what they chose."""
    task = _task(ctx, request)
    if waits(task, _so_far):
        return
    busy = any(run.kind == "circuit" for run in running(all_jobs()))
    if task.seconds <= SOON and not busy and not task.goes_on:
        begin(task)
    if task.goes_on:
        st.info(
            f"With a model of this size {request.consensus.cells} cells take minutes: first the gene effects "
            "of all of them, then the edges between the features that they share. Each cell is kept, so that "
            "a stopped consensus goes on where it was."
        )
    words = "this cell" if request.row is not None else f"{n_cells(request):,} cells"
    ask_button(task, f"Trace {words}")


def called(ctx: Context, row: int) -> str:
    """The label that the model gives a cell."""
    tracer = loaders.tracer(ctx)

    def ask() -> str:
        with tracer.lm.lock:
            return tracer.predict([row])[0]

    return _CALLED.get((*loaders.tracer_key(tracer, named=False), row), ask)


def likely_answer(tracer: Tracer, label: str) -> str:
    """The model's answer for a type whose name it does not know."""

    def ask() -> str:
        with tracer.lm.lock:
            try:
                return tracer.answer_for(label)
            except ScxError:  # the page says so, and lets another answer be chosen
                return tracer.commonest_answer(label)[0]

    return _CALLED.get((*loaders.tracer_key(tracer, named=False), label), ask)


def _trace(ctx: Context, request: Request, progress: Progress) -> Circuit | Difference:
    tracer = loaders.tracer(ctx)
    with tracer.lm.lock:
        if request.row is not None:
            progress(0, 1, "tracing the cell")
        return circuit_of(tracer, asked_of(request), progress)


def _so_far(run: RunFolder) -> None:
    """What is known of a consensus that is being traced: its strongest genes by now."""
    known = so_far(run)
    if known is not None:
        st.caption(
            f"So far: the strongest genes; edges of {known['edges']} of {known['cells']} cells are done."
        )
        table(known["genes"], _SO_FAR)


def cell_progress(place: DeltaGenerator) -> Progress:
    """A progress bar in `place` that counts cells."""

    def tell(done: int, total: int, message: str = "") -> None:
        words = f"Cell {done} of {total}" if total > 1 else "Tracing …"
        place.progress(done / max(1, total), text=words)

    return tell
