"""A circuit that was asked for: traced once, then kept for all sessions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.results import Column, Memory, table
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.difference import Difference, compare_types
from scx_core.circuits.many_cells.two_steps import STEPS, Partial, SoFar
from scx_core.errors import ScxError
from scx_core.runs import Progress

_CIRCUITS: Memory[Circuit] = Memory(24)
_CALLED: Memory[str] = Memory(256)
_RUNNING = "consensus that is being traced"
SHOWN = 12
_SO_FAR: dict[str, Column] = {
    "gene": ("Gene",),
    "effect": ("Effect (mean)", "%.3f"),
    "low": ("from", "%.3f"),
    "high": ("to", "%.3f"),
    "n": ("Cells with it", "%d"),
}
_SIDES: Memory[Difference] = Memory(24)


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


def traced(ctx: Context, request: Request, progress: Progress, partial: Partial | None = None) -> Circuit:
    """The circuit. Raises ScxError when it cannot be traced."""
    return _CIRCUITS.get(_key(ctx, request), lambda: _trace(ctx, request, progress, partial))


def _key(ctx: Context, request: Request) -> Hashable:
    asked = request
    if request.row is not None:  # the type and the consensus settings play no part in one cell's circuit
        asked = request._replace(label="", consensus=ConsensusConfig())
    return (*loaders.tracer_key(loaders.tracer(ctx), named=False), asked)


def started(ctx: Context, request: Request) -> bool:
    """Whether the circuit is there or may be traced now. One that takes minutes waits for a press on a
    button, and another stops it; what is done by then is kept, and a later press goes on there."""
    whole = request.row is None and request.less is None
    if not whole or not loaders.tracer(ctx).in_two_steps(request.consensus):
        return True
    key = _key(ctx, request)
    if _CIRCUITS.peek(key) is not None:
        return True
    if st.session_state.get(_RUNNING) != key:
        n = request.consensus.cells
        st.info(
            f"With a model of this size {n} cells take minutes: first the gene effects of all of them, "
            "then the edges between the features that they share. Each cell is kept, so that a stopped "
            "consensus goes on where it was."
        )
        st.button(f"Trace {n} cells", type="primary", on_click=_run, args=(key,))
        return False
    st.button("Stop", icon=":material/stop:", on_click=_run, args=(None,))
    return True


def _run(key: Hashable | None) -> None:
    st.session_state[_RUNNING] = key


def sides(ctx: Context, request: Request) -> Difference | None:
    """Both sides of a difference that was traced here."""
    return _SIDES.peek((*loaders.tracer_key(loaders.tracer(ctx), named=False), request))


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


def _trace(ctx: Context, request: Request, progress: Progress, partial: Partial | None) -> Circuit:
    tracer = loaders.tracer(ctx)
    against = request.competitors
    with tracer.lm.lock:
        if request.row is not None:
            progress(0, 1, "tracing the cell")
            return tracer.cell(request.row, label=request.answer, against=against, cfg=request.trace)
        if request.less is not None:
            cfg, trace = request.consensus, request.trace
            both = compare_types(tracer, request.label, request.less, trace=trace, cfg=cfg, progress=progress)
            _SIDES.get((*loaders.tracer_key(tracer, named=False), request), lambda: both)
            return both.difference
        if request.rows is not None:
            return tracer.of_cells(
                request.rows,
                request.answer,
                label=request.label,
                against=against,
                trace=request.trace,
                cfg=request.consensus,
                progress=progress,
            )
        return tracer.consensus(
            request.label,
            answer=request.answer,
            against=against,
            trace=request.trace,
            cfg=request.consensus,
            progress=progress,
            partial=partial,
        )


def so_far(place: DeltaGenerator) -> Partial:
    """Shows in `place` what is known of a consensus that is being traced: its strongest genes by now."""

    def tell(known: SoFar) -> None:
        rows = [
            {"gene": gene.gene, "effect": gene.effect, "low": gene.low, "high": gene.high, "n": gene.n_cells}
            for gene in known.genes[:SHOWN]
        ]
        with place.container():
            done = f"{len(known.merged)} of {known.n_cells}"
            st.caption(f"So far: the strongest genes; edges of {done} cells are done.")
            table(rows, _SO_FAR)

    return tell


def cell_progress(place: DeltaGenerator) -> Progress:
    """A progress bar in `place` that counts cells."""

    def tell(done: int, total: int, message: str = "") -> None:
        words = f"Cell {done} of {total}" if total > 1 else "Tracing …"
        if message.startswith(STEPS):  # of a consensus in two steps, which knows how long it will take
            words = safe(message[:1].upper() + message[1:])
        place.progress(done / max(1, total), text=words)

    return tell
