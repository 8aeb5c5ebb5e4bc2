"""Against whom a circuit's answer is read, and whether there is anything to explain."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import kept_widgets as kept
from pages.parts.common.words import safe
from scx_core.circuits import Circuit
from scx_core.circuits.wording import answer_frequency, competitor_sentences, faint_note, other_text_note

PAIR = 0.5  # a competitor with this share of the others' probability is offered to be set against alone


def whose(circuit: Circuit, how_often_too: bool = False) -> None:
    """A warning where there is next to nothing to explain; who the competitors are and who is left out."""
    if text := faint_note(circuit):
        st.warning(safe(text))
    if text := other_text_note(circuit):
        st.warning(safe(text))
    said = [answer_frequency(circuit)] if how_often_too else []
    said += competitor_sentences(circuit.target)
    if any(said):
        st.caption(safe(" ".join(text for text in said if text)))


def useful_pair(circuit: Circuit) -> None:
    """A button that sets the answer against the one competitor that holds most of the others' probability."""
    target = circuit.target
    if len(target.against) < 2 or len(target.rival_shares) != len(target.against):
        return
    share, rival = max(zip(target.rival_shares, target.against, strict=True))
    if share >= PAIR:
        st.button(
            f"Set against {safe(rival)} alone",
            key="useful pair",
            help=f"It holds {share:.0%} of the competitors' probability in these cells.",
            on_click=kept.put,
            args=("against", rival),
        )
