"""Circuits: which genes and which steps made the call?"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.circuits import (
    address,
    cells_view,
    interventions,
    modes,
    paths_and_heads,
    saved_circuit,
    view,
)
from pages.parts.circuits.controls import circuit_controls, drawing_controls
from pages.parts.circuits.entry import light_note, remember
from pages.parts.circuits.pictures import picture_of
from pages.parts.circuits.side_by_side import side_by_side
from pages.parts.circuits.stage import stage
from pages.parts.circuits.tracing import Request, called, traced
from pages.parts.common import loaders
from pages.parts.common.address import read
from pages.parts.common.in_use import settled
from pages.parts.common.naming import current, says
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.words import count, safe
from pages.parts.features.atlas_source import atlas_under_way
from scx_core.circuits import Circuit
from scx_core.circuits.words.wording import answer_frequency
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.figures import View, markers_of
from scx_core.figures.drawing.edits import only


def page() -> None:
    """Controls, the circuit, what it is made of, exports."""
    st.html(_STYLE)
    if not read(address.take):
        return
    if modes.presenting():
        _presented(context())
        return
    head = st.container(horizontal=True, vertical_alignment="center", key="head")
    head.markdown("# Circuits")
    head.markdown(":gray[Which genes and which steps does the model use for its answer?]")
    ctx = context()
    found = saved_circuit.opened()
    if found is not None:
        found = found._replace(circuit=current(found.circuit))
        _saved(ctx, found)
        return
    with head:
        saved_circuit.opener()
        if st.button("Cells in view", icon=":material/scatter_plot:", type="tertiary"):
            cells_view.chooser(ctx)
        modes.switches()
    ctx = context()
    if not settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    request, shown = circuit_controls(tracer)
    found = traced(ctx, request, st.empty())
    if found is None:
        address.write(ctx, request.rows)
        return
    circuit = current(found, loaders.transcoders(ctx).folder)
    st.markdown(_what_is_shown(ctx, request, circuit))
    modes.set_by_an_expert(request, shown)
    view.banners(circuit)
    picture = st.container()
    with modes.for_experts("competitors"):
        view.competitors(circuit)
        view.one_competitor(circuit)
    circuit = interventions.with_measured(ctx, request, circuit)
    with picture:
        light_note(circuit)
    small = interventions.smallest_to_draw(ctx, request)
    if small is not None:
        with picture:
            n = count(len(small.nodes), "feature")
            st.info(
                f"{interventions.what_remains(small)} Drawn: the {n} of the smallest circuit that the search "
                "found, as far as this circuit holds them."
            )
    _show(picture, ctx, circuit, shown, request.consensus.min_share, small)
    address.write(ctx, request.rows, next(iter(picture_of(circuit).chosen), ""))
    if tracer.names is None:
        st.caption(atlas_under_way(ctx))
    if request.less is not None:
        with picture:
            side_by_side(ctx, request)
    with modes.for_experts("questions"):
        paths_and_heads.edge_heads(ctx, circuit)
        paths_and_heads.paths(ctx, request)
        interventions.smallest_circuit(ctx, request)
        interventions.other_rankings(ctx, request)


def _presented(ctx: Context) -> None:
    """The picture alone, for an audience: whose circuit it is, what validation says, the drawing."""
    if not settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    with st.container(key="not-presented"):
        request, shown = circuit_controls(tracer)
    modes.keys(request.label, tracer.table.types)
    st.markdown(f"# {safe(request.label)}")
    found = traced(ctx, request, st.empty())
    if found is not None:
        circuit = current(found, loaders.transcoders(ctx).folder)
        st.markdown(_what_is_shown(ctx, request, circuit))
        view.banners(circuit)
        remember(circuit, shown, markers_of(circuit)[0])
        stage(ctx, circuit, shown, alone=True)
    address.write(ctx, request.rows)


def _saved(ctx: Context, found: saved_circuit.Opened) -> None:
    """A circuit from a file, drawn as if it were traced here; the model is loaded after that, to compare."""
    saved_circuit.heading(found)
    place = st.empty()
    view.banners(found.circuit)
    view.competitors(found.circuit, how_often_too=True)
    _show(st.container(), ctx, found.circuit, drawing_controls(), saved_circuit.min_share(found.circuit))
    place.markdown(saved_circuit.note(ctx, found))


def _show(
    picture: DeltaGenerator,
    ctx: Context,
    circuit: Circuit,
    shown: View,
    min_share: float,
    small: Smallest | None = None,
) -> None:
    remember(circuit, shown, markers_of(circuit)[0])
    with modes.for_experts("steps"):
        join = view.joined()
        circuit = view.with_steps(circuit, st.container())
    with picture:
        drawn = circuit if join else circuit._replace(supernodes=())
        drawn = drawn if small is None else only(drawn, small.nodes)
        stage(ctx, drawn, shown)
        st.caption(says(circuit))
    with modes.for_experts("tested"):
        view.tested(circuit)
    view.exports(circuit, shown, drawn)
    with modes.for_experts("scores"):
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
    if request.rows is not None:
        counts = circuit.provenance["chosen_by_hand"]
        of = safe(", ".join(f"{n} {name}" for name, n in list(counts.items())[:4]))
        return (
            f"**{what}** over {count(circuit.n_cells, 'cell')} chosen by hand; the data call them {of}. "
            f"{safe(answer_frequency(circuit))}"
        )
    if request.row is None:
        called_so = (
            "" if request.answer == request.label else f", which the data call **{safe(request.label)}**"
        )
        words = f"**{what}** over {circuit.n_cells} cells of the type{called_so}."
        return f"{words} {safe(answer_frequency(circuit))}"
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
- **Below the name**: where the feature stands in this circuit, if its name does not say so (most stand "at
  answer": attention carries there what genes' tokens write), and the gene whose tokens add most to it over
  all paths, with its share; "driven by" from 25% on.
- **Top**: the answer, and what it stands against.
- **Edges**: orange raises, blue lowers; the wider, the more of the answer's input goes through. Hover for
  the numbers. In a difference of two types, orange is an effect that is higher in the first type, blue in the
  second, and grey is what was tested without a difference found: effects on the answer, not expression.
- **Frozen attribution**: what a gene or feature adds to the answer's score in the frozen model, over all
  paths. It is an exact account of that model, not what the answer would lose without the gene.
- **Lost without the gene**: measured in the real model, nothing frozen: a neutral gene in its place, or the
  gene taken out and the rest moved up. Measured, it leads the table; positive speaks for the answer.
- **All settings** shows every control and question of this page; what is set there stays in effect without
  it. **Present** shows the picture alone, in large type: ← and → go through the cell types, Escape leaves.
  Both are in the address of the page, so a reload and a copied link keep them.
- All of these are evidence about what the model uses, not about the biology of the cell.
"""

# The picture first: it begins as high as it can, and stands above its card in a narrow window.
_STYLE = """
<style>
[data-testid="stMainBlockContainer"] { padding-top: 0.7rem; max-width: none; }
[data-testid="stHeader"] { background: transparent; height: 2.2rem; }
[data-testid="stHeader"], [data-testid="stHeader"] div { pointer-events: none; }
[data-testid="stHeader"] button { pointer-events: auto; }
[data-testid="stMainBlockContainer"] > div > [data-testid="stVerticalBlock"] { gap: 0.5rem; }
.st-key-head { flex-wrap: nowrap; padding-right: 1.6rem; }
.st-key-head > div { flex: 0 0 auto; width: auto; }
.st-key-head h1 { margin: 0; padding: 0 !important; line-height: 1.2; }
.st-key-head [data-testid="stMarkdownContainer"] { margin-bottom: 0; }
.st-key-head > div:nth-child(2) { flex: 1 1 0; min-width: 0; }
.st-key-head > div:nth-child(2) p { font-size: 0.9rem; line-height: 1.25; margin: 0; }
.st-key-stage [data-testid="stColumn"] { min-width: 250px; }
@media (max-width: 1200px) {
  .st-key-head { flex-wrap: wrap; row-gap: 0; }
  .st-key-head > div:first-child { flex: 1 1 auto; }
  .st-key-head > div:nth-child(2) { order: 9; flex: 0 0 100%; }
  .st-key-line { flex-wrap: nowrap; gap: 0.6rem; }
  .st-key-line > div { flex: 1 1 0; min-width: 0; width: auto; }
  .st-key-line > div:first-child { flex-grow: 1.7; }
  .st-key-line > div:nth-child(2) { flex-grow: 1.4; }
}
@media (max-width: 1100px) {
  .st-key-stage [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
  .st-key-stage [data-testid="stColumn"] { min-width: 100%; }
}
</style>
"""

run_page("pages/circuits.py", page, None)
