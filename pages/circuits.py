"""Circuits: which genes and which steps made the call?"""

from __future__ import annotations

import streamlit as st

from pages.parts.circuits import competitors_view as whose_view
from pages.parts.circuits import heads_view as edge_heads
from pages.parts.circuits import (
    highlight,
    knockouts_view,
    paths_view,
    rivals_view,
    saved_circuit,
    smallest_view,
)
from pages.parts.circuits import supernodes as steps
from pages.parts.circuits import view as circuit_view
from pages.parts.circuits.atlas_job import atlas_under_way
from pages.parts.circuits.controls import circuit_controls, drawing_controls
from pages.parts.circuits.last_circuit import remember
from pages.parts.circuits.tracing import Request, called, tell, traced
from pages.parts.common import loaders, other_text
from pages.parts.common.messages import heading
from pages.parts.common.naming import named, says
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.words import safe
from scx_core.circuits import Circuit
from scx_core.circuits.wording import answer_frequency
from scx_core.figures import View, markers_of


def page() -> None:
    """Controls, the circuit, what it is made of, exports."""
    heading("Circuits", "Which genes and which steps does the model use for its answer?")
    ctx = context()
    found = saved_circuit.opened()
    if found is not None:
        found = found._replace(circuit=named(found.circuit))
        _saved(ctx, found)
        return
    saved_circuit.opener()
    if not other_text.settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    request, view = circuit_controls(tracer)
    place = st.empty()
    circuit = named(traced(ctx, request, tell(place)))
    place.empty()
    st.markdown(_what_is_shown(ctx, request, circuit))
    whose_view.whose(circuit)
    whose_view.useful_pair(circuit)
    circuit = knockouts_view.with_measured(ctx, request, circuit)
    highlight.note(circuit)
    _show(circuit, view, request.consensus.min_share)
    if tracer.names is None:
        st.caption(atlas_under_way(ctx))
    edge_heads.edge_heads(ctx, circuit)
    paths_view.paths(ctx, request)
    smallest_view.smallest_circuit(ctx, request)
    rivals_view.rivals(ctx, request)


def _saved(ctx: Context, found: saved_circuit.Opened) -> None:
    """A circuit from a file, drawn as if it were traced here; the model is loaded after that, to compare."""
    saved_circuit.heading(found)
    place = st.empty()
    whose_view.whose(found.circuit, how_often_too=True)
    view = drawing_controls()
    _show(found.circuit, view, saved_circuit.min_share(found.circuit))
    place.markdown(saved_circuit.note(ctx, found))


def _show(circuit: Circuit, view: View, min_share: float) -> None:
    remember(circuit, view, markers_of(circuit)[0])
    join = steps.joined()
    left, right = st.columns([73, 27])
    with right:
        circuit_view.genes(circuit)
    circuit_view.tested(circuit)
    circuit = steps.with_steps(circuit, st.container())
    with left:
        circuit_view.network(steps.drawn(circuit, join), view)
        st.caption(says(circuit))
    circuit_view.exports(circuit, view)
    circuit_view.sentence(circuit, min_share)
    circuit_view.scores(circuit)
    with st.expander("How to read this"):
        st.markdown(_READING)


def _what_is_shown(ctx: Context, request: Request, circuit: Circuit) -> str:
    """One sentence about whose circuit this is, and whether the model gives this answer at all."""
    if request.less is not None:
        return (
            f"**{safe(circuit.target.label)}**, {circuit.n_cells} cells of both types: every number is the "
            "mean over cells of the first type less that over cells of the second."
        )
    ours = circuit.target.kind in ("answer", "contrast")
    what = safe(request.answer if ours else circuit.target.label)
    if request.row is None:
        return f"**{what}** over {circuit.n_cells} cells of the type. {safe(answer_frequency(circuit))}"
    table = loaders.tracer(ctx).table
    answer = called(ctx, request.row)
    says = "so does the model" if answer == request.label else f"the model says **{safe(answer)}**"
    return (
        f"**{what}** in one cell, {safe(table.cell_ids[request.row])}. "
        f"The data call it {safe(request.label)}; {says}."
    )


_READING = """
- **Bottom row**: genes in the order of the cell sentence, each once, though its name may be several tokens.
- **Middle rows**: one a layer. A box is a feature of that layer's transcoder, called after what it is active
  at: genes, a family, a cell type, a place in the sentence, words of the prompt, the answer's place. An atlas
  knows this for all of its cells (page Features); without one, a name is of these cells alone.
- **driven by**: the gene whose tokens add most to the feature, over all paths. It need not be active there:
  attention carries what a gene's tokens write to other tokens.
- **Top**: the answer, and what it stands against.
- **Edges**: orange raises, blue lowers; the wider, the more of the answer's input goes through. Hover for
  the numbers. In a difference of two types, orange is an effect that is higher in the first type, blue in the
  second, and grey is what was tested without a difference found: effects on the answer, not expression.
- **Frozen attribution**: what a gene or feature adds to the answer's score in the frozen model, over all
  paths. It is an exact account of that model, not what the answer would lose without the gene.
- **Lost without the gene**: measured in the real model, nothing frozen: a neutral gene in its place, or the
  gene taken out and the rest moved up. Measured, it leads the table; positive speaks for the answer.
- All of these are evidence about what the model uses, not about the biology of the cell.
"""

run_page("pages/circuits.py", page)
