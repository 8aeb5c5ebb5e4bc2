"""A circuit that was asked for: traced once, then kept for all sessions."""

from __future__ import annotations

from typing import NamedTuple

from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.results import Memory
from pages.parts.common.session import Context
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.difference import compare_types
from scx_core.errors import ScxError
from scx_core.runs import Progress

_CIRCUITS: Memory[Circuit] = Memory(24)
_CALLED: Memory[str] = Memory(256)


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


def traced(ctx: Context, request: Request, progress: Progress) -> Circuit:
    """The circuit. Raises ScxError when it cannot be traced."""
    asked = request
    if request.row is not None:  # the type and the consensus settings play no part in one cell's circuit
        asked = request._replace(label="", consensus=ConsensusConfig())
    key = (*loaders.tracer_key(loaders.tracer(ctx), named=False), asked)
    return _CIRCUITS.get(key, lambda: _trace(ctx, request, progress))


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


def _trace(ctx: Context, request: Request, progress: Progress) -> Circuit:
    tracer = loaders.tracer(ctx)
    against = request.competitors
    with tracer.lm.lock:
        if request.row is not None:
            progress(0, 1, "tracing the cell")
            return tracer.cell(request.row, label=request.answer, against=against, cfg=request.trace)
        if request.less is not None:
            cfg, trace = request.consensus, request.trace
            both = compare_types(tracer, request.label, request.less, trace=trace, cfg=cfg, progress=progress)
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
        )


def cell_progress(place: DeltaGenerator) -> Progress:
    """A progress bar in `place` that counts cells."""

    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(done / max(1, total), text=f"Cell {done} of {total}" if total > 1 else "Tracing …")

    return tell
