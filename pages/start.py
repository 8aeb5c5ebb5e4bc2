"""Start: what have I got, and how do I see a circuit?"""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.parts.circuits.last_circuit import last_circuit
from pages.parts.circuits.request import ask_for_embedded
from pages.parts.common.messages import heading
from pages.parts.common.page import run_page
from pages.parts.common.session import context
from pages.parts.common.words import HELP
from pages.parts.start.cards import cards


def page() -> None:
    """What to do first; the cards come last, as they load everything."""
    heading(
        "Which genes, and which steps, made the call?",
        "scX opens a language model that names cell types from a cell's genes, and shows what it uses.",
    )
    ctx = context()
    own = ctx.model != "embedded"
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        left.markdown(
            "**Three steps to a circuit**\n"
            "1. **Cells**: the embedded blood cells, or your own file (Data).\n"
            "2. **Model and transcoders**: the embedded ones, or some trained on your cells (Train).\n"
            "3. **Circuit**: choose a cell type, see its genes and the steps between them (Circuits)."
        )
        if own and right.button("Go to the circuits", type="primary", width="stretch", help=HELP["circuit"]):
            st.switch_page("pages/circuits.py")
        kind: Literal["primary", "secondary"] = "secondary" if own else "primary"
        if right.button("Show me a circuit", type=kind, width="stretch", help=HELP["circuit"]):
            ask_for_embedded()
            st.switch_page("pages/circuits.py")
        right.caption("B cells, with the embedded cells, model and transcoders.")

    st.markdown("### What is loaded")
    cards(ctx)
    last_circuit()


run_page("pages/start.py", page)
