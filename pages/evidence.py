"""Evidence: should this circuit be believed?"""

from __future__ import annotations

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.in_use import settled
from pages.parts.common.messages import heading, shown_errors
from pages.parts.common.page import run_page
from pages.parts.common.session import context, kept
from pages.parts.evidence import findings
from pages.parts.evidence.measuring import chosen_settings, known, measure_button, types_to_choose


def page() -> None:
    """Choose a type; what is known of its circuit, the ladder first, or a button that measures it."""
    heading("Evidence", "Does the circuit cause, suffice, repeat, and say something about biology?")
    ctx = context()
    if not settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    types = types_to_choose(tracer)
    left, middle, right = st.columns([2, 1.4, 1.2], vertical_alignment="bottom")
    label = kept(left.selectbox, "Cell type", "evidence type", types[0], types)
    with middle.popover("Cells", width="stretch"):
        cfg = chosen_settings()
    place = st.empty()
    found = None
    with shown_errors():
        found = known(tracer, label, cfg)
    with shown_errors():
        measure_button(tracer, label, cfg, found is not None, right, place)
    if found is None:
        place.info(
            "Nothing is measured yet for this type with these cells, this model and these transcoders. On "
            "two "
            "cores it takes about a minute for a model of four layers; it is kept."
        )
    else:
        findings.ladder(found)
        findings.downloads(ctx, found)
        findings.details(found)
    with shown_errors():
        findings.all_types(tracer, types, cfg)


run_page("pages/evidence.py", page)
