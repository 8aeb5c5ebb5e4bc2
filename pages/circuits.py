"""Circuits: which genes and which steps made the call?"""

from __future__ import annotations

import streamlit as st

from pages.parts.circuits import interventions, paths_and_heads, saved_circuit, view
from pages.parts.circuits.controls import circuit_controls, drawing_controls
from pages.parts.circuits.entry import light_note, remember
from pages.parts.circuits.tracing import Request, called, cell_progress, traced
from pages.parts.common import loaders
from pages.parts.common.in_use import settled
from pages.parts.common.messages import heading
from pages.parts.common.naming import named, says
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.words import safe
from pages.parts.features.atlas_source import atlas_under_way
from scx_core.circuits import Circuit
from scx_core.circuits.supernodes import collapse
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
    if not settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    request, shown = circuit_controls(tracer)
    place = st.empty()
    circuit = named(traced(ctx, request, cell_progress(place)))
    place.empty()
    st.markdown(_what_is_shown(ctx, request, circuit))
    view.competitors(circuit)
    view.one_competitor(circuit)
    circuit = interventions.with_measured(ctx, request, circuit)
    light_note(circuit)
    _show(circuit, shown, request.consensus.min_share)
    if tracer.names is None:
        st.caption(atlas_under_way(ctx))
    paths_and_heads.edge_heads(ctx, circuit)
    paths_and_heads.paths(ctx, request)
    interventions.smallest_circuit(ctx, request)
    interventions.other_rankings(ctx, request)


def _saved(ctx: Context, found: saved_circuit.Opened) -> None:
    """A circuit from a file, drawn as if it were traced here; the model is loaded after that, to compare."""
    saved_circuit.heading(found)
    place = st.empty()
    view.competitors(found.circuit, how_often_too=True)
    _show(found.circuit, drawing_controls(), saved_circuit.min_share(found.circuit))
    place.markdown(saved_circuit.note(ctx, found))


def _show(circuit: Circuit, shown: View, min_share: float) -> None:
    remember(circuit, shown, markers_of(circuit)[0])
    join = view.joined()
    left, right = st.columns([73, 27])
    with right:
        view.genes(circuit)
    view.tested(circuit)
    circuit = view.with_steps(circuit, st.container())
    with left:
        view.network(collapse(circuit) if join else circuit, shown)
        st.caption(says(circuit))
    view.exports(circuit, shown)
    view.sentence(circuit, min_share)
    view.scores(circuit)
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
