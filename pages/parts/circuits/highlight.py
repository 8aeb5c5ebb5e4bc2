"""A feature that the circuits page lights up, because a person came from it."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.words import percent
from scx_core.circuits import Circuit
from scx_core.figures import boxes_of

KEY = "scx_highlight"


def light(layer: int, feature: int) -> None:
    """Light this feature in the circuits that are drawn next."""
    st.session_state[KEY] = (layer, feature)


def off() -> None:
    """Light nothing."""
    st.session_state.pop(KEY, None)


def boxes(circuit: Circuit) -> frozenset[str]:
    """The boxes to be lit."""
    found = st.session_state.get(KEY)
    return boxes_of(circuit, *found) if found is not None else frozenset()


def note(circuit: Circuit) -> None:
    """Whether the circuit uses it, and how much; with a button that puts the light out."""
    found = st.session_state.get(KEY)
    if found is None:
        return
    layer, feature = found
    nodes = [
        node
        for node in circuit.nodes
        if node.kind == "feature" and (node.layer, node.feature) == (layer, feature)
    ]
    words, out = st.columns([6, 1], vertical_alignment="center")
    out.button("Put it out", on_click=off, icon=":material/flare:", type="tertiary", width="stretch")
    if not nodes:
        words.info(f"L{layer}·{feature} is not in this circuit.")
        return
    effect, share = sum(node.effect for node in nodes), max(node.share for node in nodes)
    where = f", in {percent(share)} of the cells" if circuit.scope != "cell" else ""
    words.info(
        f"L{layer}·{feature} is in this circuit: effect {effect:+.2f} {circuit.target.unit}, "
        f"{percent(sum(node.influence for node in nodes))} of the target's input flows through it{where}."
    )
