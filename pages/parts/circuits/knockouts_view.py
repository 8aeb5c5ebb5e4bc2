"""Measured knock-outs on the circuits page: at once where they take seconds, else when a person asks."""

from __future__ import annotations

import streamlit as st

from pages.parts.circuits.tracing import Request, tell
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import HELP, count, duration
from scx_core.circuits import Circuit
from scx_core.evidence import seconds_for, with_knockouts

AT_ONCE = 5.0  # seconds that nobody is asked for
_MEASURED: Memory[Circuit] = Memory(24)


def with_measured(ctx: Context, request: Request, circuit: Circuit) -> Circuit:
    """The circuit whose genes carry measured knock-outs, where they are known or asked for."""
    if request.less is not None or circuit.target.kind in ("feature", "token"):
        return circuit
    tracer = loaders.tracer(ctx)
    fixed = (tracer.table.fingerprint, tracer.lm.fingerprint, tracer.transcoders.fingerprint)
    key = (*fixed, str(tracer.table.choices), str(tracer.lm.device), request)
    seconds = seconds_for(tracer, circuit.n_cells)
    wanted = seconds <= AT_ONCE or _MEASURED.peek(key) is not None
    if not wanted:
        words = f"Measure knock-outs in {count(circuit.n_cells, 'cell')}, about {duration(seconds)}"
        wanted = st.button(words, help=HELP["knockout"], key="measure knock-outs")
    if not wanted:
        return circuit
    place = st.empty()

    def measure() -> Circuit:
        with loaders.MODEL_LOCK:
            return with_knockouts(tracer, circuit, progress=tell(place))

    with shown_errors():
        found = _MEASURED.get(key, measure)
        place.empty()
        return circuit._replace(genes=found.genes, provenance=circuit.provenance | found.provenance)
    return circuit
