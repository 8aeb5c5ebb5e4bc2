"""A circuit that was asked for: traced once, then kept for all sessions."""

from __future__ import annotations

from typing import NamedTuple

from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.difference import compare_types
from scx_core.errors import ScxError
from scx_core.runs import Progress

_CIRCUITS: Memory[Circuit] = Memory(24)
_CALLED: Memory[str] = Memory(256)


class Request(NamedTuple):
    """One circuit: `row` is None for a consensus; `against` None for all other types; `less`: the type whose
    circuit is subtracted."""

    label: str
    answer: str
    against: str | None
    row: int | None
    trace: TraceConfig
    consensus: ConsensusConfig
    less: str | None = None


def traced(ctx: Context, request: Request, progress: Progress) -> Circuit:
    """The circuit. Raises ScxError when it cannot be traced."""
    return _CIRCUITS.get(_key(ctx, request), lambda: _trace(ctx, request, progress))


def called(ctx: Context, row: int) -> str:
    """The label that the model gives a cell."""
    tracer = loaders.tracer(ctx)

    def ask() -> str:
        with loaders.MODEL_LOCK:
            return tracer.predict([row])[0]

    return _CALLED.get((*_identity(tracer), row), ask)


def likely_answer(tracer: Tracer, label: str) -> str:
    """The model's answer for a type whose name it does not know."""

    def ask() -> str:
        with loaders.MODEL_LOCK:
            try:
                return tracer.answer_for(label)
            except ScxError:  # the page says so, and lets another answer be chosen
                return tracer.commonest_answer(label)[0]

    return _CALLED.get((*_identity(tracer), label), ask)


def _trace(ctx: Context, request: Request, progress: Progress) -> Circuit:
    tracer = loaders.tracer(ctx)
    against = [request.against] if request.against else None
    with loaders.MODEL_LOCK:
        if request.row is not None:
            progress(0, 1, "tracing the cell")
            return tracer.cell(request.row, label=request.answer, against=against, cfg=request.trace)
        if request.less is not None:
            cfg, trace = request.consensus, request.trace
            both = compare_types(tracer, request.label, request.less, trace=trace, cfg=cfg, progress=progress)
            return both.difference
        return tracer.consensus(
            request.label,
            answer=request.answer,
            against=against,
            trace=request.trace,
            cfg=request.consensus,
            progress=progress,
        )


def _key(ctx: Context, request: Request) -> tuple[object, ...]:
    if request.row is not None:  # the type and the consensus settings play no part in one cell's circuit
        request = request._replace(label="", consensus=ConsensusConfig())
    return (*_identity(loaders.tracer(ctx)), request)


def _identity(tracer: Tracer) -> tuple[object, ...]:
    table, lm = tracer.table, tracer.lm
    # The same weights may be used on another text, and the same cells under another mapping of their types.
    marks = str(tracer.transcoders.meta.get("as_is")), str(table.answer_of), str(lm.sentence_config)
    return (
        table.fingerprint,
        table.choices,
        lm.fingerprint,
        tracer.transcoders.fingerprint,
        str(lm.device),
        *marks,
    )


def tell(place: DeltaGenerator) -> Progress:
    """A progress bar in `place`."""

    def show(done: int, total: int, message: str = "") -> None:
        place.progress(done / max(1, total), text=f"Cell {done} of {total}" if total > 1 else "Tracing …")

    return show
