"""The circuit that was looked at last, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.parts.common.results_cache import Memory

if TYPE_CHECKING:
    from scx_core.circuits import Circuit
    from scx_core.figures import View

KEY = "scx_last_circuit"
_PICTURES: Memory[bytes] = Memory(8)


def remember(circuit: Circuit, view: View, markers: frozenset[str] | None) -> None:
    """Note what is on the screen."""
    st.session_state[KEY] = (circuit, view, markers)


def last_circuit() -> None:
    """The picture, if there is one."""
    if KEY not in st.session_state:
        return
    from scx_core.figures import export_bytes

    circuit, view, markers = st.session_state[KEY]
    st.markdown("### The last circuit")
    # The session keeps the circuit, so its id stays its own.
    key = (id(circuit), view, markers)
    picture = _PICTURES.get(key, lambda: export_bytes(circuit, "png", view=view, markers=markers))
    st.image(picture, width=900)
    st.page_link("pages/circuits.py", label="Back to it", icon=":material/arrow_forward:")
