"""The circuit and what stands beside it: the picture, and the card of what is chosen in it.

A gesture in the picture draws only this part of the page again. What a person did to a picture is kept for
the session, by what the picture shows.
"""

from __future__ import annotations

import dataclasses
import json

import streamlit as st

from pages.parts.circuits import address, graph, node_card, view
from pages.parts.circuits.entry import lit_boxes
from pages.parts.circuits.graph import Gesture
from pages.parts.circuits.pictures import Picture, keep, name_of, picture_of
from pages.parts.common.address import WRITTEN
from pages.parts.common.messages import show_error
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.circuits import Circuit
from scx_core.errors import ScxError
from scx_core.figures import View, file_name, markers_of
from scx_core.figures.drawing.edits import Edits, drawn, joined
from scx_core.figures.explain import explain
from scx_core.figures.saved_view import SavedView

DRAWN_LAST, SEEN, PICTURE = "scx_picture_drawn", "scx_gesture", "picture"
MOST_UNDONE = 100
PARTS = (69, 31)


@st.fragment
def stage(ctx: Context, circuit: Circuit, shown: View, alone: bool = False) -> None:
    """The picture on the left, on the right the card of what is chosen, or the genes. `alone`: the picture
    over the whole width, to be looked at, and nothing else."""
    _from_address(circuit)
    made = picture_of(circuit)
    view_now = dataclasses.replace(shown, size="screen")
    markers = markers_of(circuit)[0] or frozenset()
    drawing = drawn(circuit, made.edits, view_now, markers=markers)
    found = graph.reported(PICTURE, drawing)
    if found is not None and found.at != st.session_state.get(SEEN):
        st.session_state[SEEN] = found.at
        before, made = made, _take(circuit, made, found)
        address.write_box(next(iter(made.chosen), ""))
        if made.edits != before.edits:
            drawing = drawn(circuit, made.edits, view_now, markers=markers)
    with st.container(key="stage"):
        left, right = (st.container(), None) if alone else st.columns(PARTS)
        with left:
            name = name_of(circuit)
            graph.picture(
                drawing,
                PICTURE,
                chosen=made.chosen,
                lit=lit_boxes(circuit),
                pinned=tuple(box for box, _ in made.edits.places),
                edits=len(made.states) > 1,
                same=st.session_state.get(DRAWN_LAST) == name,
                presented=alone,
            )
            st.session_state[DRAWN_LAST] = name
            if right is None:
                return
            with st.expander("Explain this picture"):
                st.markdown("\n".join(f"1. {safe(text)}" for text in explain(circuit)))
            asked = dict(st.session_state.get(WRITTEN, {}))
            saved = SavedView(circuit, made.edits, shown, made.chosen, asked)
            name = file_name(circuit, "json").replace(".json", "_view.json")
            words = "One file: the circuit and what was done to its picture. “Open a saved circuit” opens it."
            st.download_button(
                "Save this view", lambda: json.dumps(saved.to_json(), indent=1), name, "application/json",
                icon=":material/bookmark:", type="tertiary", on_click="ignore", help=words,
            )  # fmt: skip
        with right:
            if made.chosen:
                node_card.card(ctx, circuit, joined(circuit, made.edits), made.chosen)
            else:
                view.genes(circuit)


def _from_address(circuit: Circuit) -> None:
    """Choose the box that the address names, once; from then on the address follows what is chosen."""
    box = st.session_state.pop(address.BOX, "")
    if box:
        keep(circuit, picture_of(circuit)._replace(chosen=(box,)))


def _take(circuit: Circuit, made: Picture, found: Gesture) -> Picture:
    """Do what a gesture says, and keep it; what cannot be done is said."""
    try:
        changed = after(circuit, made, found)
    except ScxError as error:
        show_error(error)
        return made
    keep(circuit, changed)
    return changed


def after(circuit: Circuit, made: Picture, found: Gesture) -> Picture:
    """The picture after a gesture. Raises ScxError where it cannot be done."""
    edits, states = made.edits, made.states
    if found.kind == "choose":
        return made._replace(chosen=found.ids)
    if found.kind == "undo":
        return made._replace(states=states[:-1] or states, chosen=found.ids)
    if found.kind == "reset":
        changed = Edits()
    elif found.kind == "hide":
        changed = edits.hide(found.ids)
    elif found.kind == "pin":
        changed = edits.pin(found.places)
    elif found.kind == "unpin":
        changed = edits.unpin(found.ids)
    elif found.kind == "rename":
        changed = edits.rename(found.ids[0], found.name) if found.ids else edits
    else:
        changed = edits.join(circuit, found.ids, found.name)
    if changed == edits:
        return made
    gone = found.kind in ("hide", "join")
    return made._replace(states=(*states, changed)[-MOST_UNDONE:], chosen=() if gone else found.ids)
