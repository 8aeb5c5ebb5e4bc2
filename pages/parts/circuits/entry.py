"""The ways to the circuits page: asked for with its default, with a feature lit, back to the last circuit.

Importing this brings no torch: the start page must not wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts.common.results import Memory
from pages.parts.common.session import forget, use_default
from pages.parts.common.words import percent

if TYPE_CHECKING:
    from scx_core.circuits import Circuit
    from scx_core.figures import View

LAST, LIT = "scx_last_circuit", "scx_highlight"
CONTROLS = ("label", "against", "scope", "cell", "cells")
_PICTURES: Memory[bytes] = Memory(8)


def ask_for_embedded() -> None:
    """The embedded default, and the controls as they are at first: what "Show me a circuit" means."""
    use_default()
    forget(*CONTROLS)


def remember(circuit: Circuit, view: View, markers: frozenset[str] | None) -> None:
    """Note what is on the screen."""
    st.session_state[LAST] = (circuit, view, markers)


def last_circuit() -> None:
    """The circuit that was looked at last, as a picture, if there is one."""
    if LAST in st.session_state:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("### The last circuit", width="content")
            st.page_link("pages/circuits.py", label="Back to it", icon=":material/arrow_forward:")
        with st.container(key="last"):
            st.image(picture_of(*st.session_state[LAST]), width="stretch")


def picture_of(circuit: Circuit, view: View, markers: frozenset[str] | None) -> bytes:
    """The drawing as PNG, made once for equal circuits."""
    from scx_core.figures import export_bytes

    key = (circuit.fingerprint, view, markers)
    return _PICTURES.get(key, lambda: export_bytes(circuit, "png", view=view, markers=markers))


def light(layer: int, feature: int) -> None:
    """Light this feature in the circuits that are drawn next."""
    st.session_state[LIT] = (layer, feature)


def light_off() -> None:
    """Light nothing."""
    st.session_state.pop(LIT, None)


def lit_boxes(circuit: Circuit) -> frozenset[str]:
    """The boxes to be lit."""
    from scx_core.figures import boxes_of

    found = st.session_state.get(LIT)
    return boxes_of(circuit, *found) if found is not None else frozenset()


def light_note(circuit: Circuit) -> None:
    """Whether the circuit uses the lit feature, and how much; with a button that puts the light out."""
    if st.session_state.get(LIT) is None:
        return
    layer, feature = st.session_state[LIT]
    nodes = [
        node
        for node in circuit.nodes
        if node.kind == "feature" and (node.layer, node.feature) == (layer, feature)
    ]
    words, out = st.columns([6, 1], vertical_alignment="center")
    out.button("Put it out", on_click=light_off, icon=":material/flare:", type="tertiary", width="stretch")
    if not nodes:
        words.info(f"L{layer}·{feature} is not in this circuit.")
        return
    effect, share = sum(node.effect for node in nodes), max(node.share for node in nodes)
    where = f", in {percent(share)} of the cells" if circuit.scope != "cell" else ""
    words.info(
        f"L{layer}·{feature} is in this circuit: effect {effect:+.2f} {circuit.target.unit}, "
        f"{percent(sum(node.influence for node in nodes))} of the target's input flows through it{where}."
    )
