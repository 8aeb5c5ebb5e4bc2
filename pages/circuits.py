"""Circuits: which genes and which steps made the call?"""

from __future__ import annotations

import streamlit as st

from pages.parts import circuit_view, loaders
from pages.parts.circuit_controls import circuit_controls
from pages.parts.last_circuit import remember
from pages.parts.messages import heading
from pages.parts.page import run_page
from pages.parts.session import Context, context
from pages.parts.tracing import Request, called, tell, traced
from pages.parts.words import percent, safe
from scx_core.circuits import Circuit
from scx_core.figures import View, markers_of


def page() -> None:
    """Controls, the circuit, what it is made of, exports."""
    heading("Circuits", "Which genes and which steps does the model use for its answer?")
    ctx = context()
    tracer = loaders.tracer(ctx)
    request, view = circuit_controls(tracer)
    place = st.empty()
    circuit = traced(ctx, request, tell(place))
    place.empty()
    remember(circuit, view, markers_of(circuit)[0])
    _show(ctx, request, circuit, view)


def _show(ctx: Context, request: Request, circuit: Circuit, view: View) -> None:
    st.markdown(_what_is_shown(ctx, request, circuit))
    left, right = st.columns([73, 27])
    with left:
        circuit_view.network(circuit, view)
    with right:
        circuit_view.genes(circuit)
    circuit_view.exports(circuit, view)
    circuit_view.sentence(circuit, request.consensus.min_share)
    circuit_view.scores(circuit)
    with st.expander("How to read this"):
        st.markdown(_READING)


def _what_is_shown(ctx: Context, request: Request, circuit: Circuit) -> str:
    """One sentence about whose circuit this is, and whether the model gives this answer at all."""
    if request.row is None:
        gives = percent(circuit.scores["called"])
        return (
            f"**{safe(request.answer)}** over {circuit.n_cells} cells of the type. "
            f"In {gives} of them this answer beats its competitors at the token that decides."
        )
    table = loaders.tracer(ctx).table
    answer = called(ctx, request.row)
    says = "so does the model" if answer == request.label else f"the model says **{safe(answer)}**"
    return (
        f"**{safe(request.answer)}** in one cell, {safe(table.cell_ids[request.row])}. "
        f"The data call it {safe(request.label)}; {says}."
    )


_READING = """
- **Bottom row**: genes in the order of the cell sentence, each once, though its name may be several tokens.
- **Middle rows**: one a layer. A box is a feature of that layer's transcoder, with the gene at which it is
  most active.
- **Top**: the answer, and what it stands against.
- **Edges**: orange raises, blue lowers; the wider, the more of the answer's input goes through. Hover for
  the numbers.
- **Effect**: the change of the answer's score in the frozen model, in logits, over all paths.
- An effect is evidence about what the model uses, not about the biology of the cell.
"""

run_page("pages/circuits.py", page)
