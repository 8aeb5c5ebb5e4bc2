"""Evidence: should this circuit be believed?"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.address import LONGEST, View
from pages.parts.common.in_use import settled
from pages.parts.common.messages import heading, shown_errors
from pages.parts.common.page import run_page
from pages.parts.common.session import context, kept, last, put
from pages.parts.common.words import word
from pages.parts.evidence import findings
from pages.parts.evidence.further import with_chosen
from pages.parts.evidence.measuring import (
    all_button,
    chosen_settings,
    jobs_under_way,
    known,
    measure_button,
    types_to_choose,
)

TYPE = "evidence type"


def page() -> None:
    """Choose a type; what is known of its circuit, the ladder first, or a button that measures it."""
    heading(
        "Evidence",
        f"Does the {word('circuit', 'circuit')} cause, suffice, repeat, and say something about biology?",
    )
    ctx = context()
    if not settled(ctx):
        return
    tracer = loaders.tracer(ctx)
    types = types_to_choose(tracer)
    left, middle, right, far_right = st.columns([2, 1, 1.2, 1.6], vertical_alignment="bottom")
    looked_at = last("label", types[0])  # whose circuit a person has just seen
    label = kept(left.selectbox, "Cell type", TYPE, looked_at if looked_at in types else types[0], types)
    with middle.popover("Cells", width="stretch"):
        cfg = chosen_settings(ctx)
    found = None
    with shown_errors():
        found = known(tracer, label, cfg)
    records = findings.measured(tracer, types, cfg)
    with shown_errors():
        measure_button(ctx, tracer, label, cfg, right, found is not None)
        together = types[: cfg.types]
        still_open = [one for one in together if one not in records]
        all_button(ctx, tracer, cfg, len(together), len(still_open), far_right)
    with shown_errors():
        busy = jobs_under_way(tracer, label, cfg, found is not None)
        if found is None and not busy:
            st.info(
                "Nothing is measured yet for this type with these cells, this model and these "
                "transcoders. It "
                "takes two to three minutes of processor time for a model of a few layers, in the "
                "background, "
                "and is kept."
            )
    if found is not None:
        found = with_chosen(tracer, found)
        findings.ladder(found)
        findings.downloads(ctx, tracer, found, cfg)
        findings.details(found)
    findings.all_types(records)


def _take(found: Mapping[str, str]) -> None:
    """The type that an address names."""
    if "type" in found:
        put(TYPE, found["type"][:LONGEST])


run_page("pages/evidence.py", page, View(_take, lambda: {"type": str(last(TYPE, ""))}))
