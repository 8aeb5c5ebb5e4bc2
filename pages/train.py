"""Train: how good can the stand-ins get, and when are they ready?"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import sources
from pages.parts.build_form import build_form
from pages.parts.messages import heading, shown_errors
from pages.parts.page import run_page
from pages.parts.presets import preset_cards, settings, start_form
from pages.parts.run_list import run_list
from pages.parts.session import context
from pages.parts.words import HELP, safe

TRANSCODERS, MODEL = "Transcoders for the model in use", "A small model on the cells in use"


def page() -> None:
    """What to train, the runs; the estimate last, so that nothing waits for it."""
    heading("Train", "How good can the stand-ins get, and when are they ready?")
    place, cost = st.container(), lambda: None
    with place, shown_errors():
        cost = _what_to_train()
    with shown_errors():
        run_list()
    with shown_errors():
        cost()


def _what_to_train() -> Callable[[], None]:
    """The settings and the start; gives back what fills in the estimate."""
    ctx = context()
    what = st.segmented_control(
        "Train", [TRANSCODERS, MODEL], default=TRANSCODERS, required=True, key="train what"
    )
    if what == MODEL:
        return build_form(ctx)
    st.markdown(
        f"Stand-ins for every MLP of **{safe(sources.model_name(ctx.model))}**, trained on "
        f"**{safe(sources.cells_name(ctx.data))}**.",
        help=HELP["transcoders"],
    )
    transcoder, train = settings(preset_cards())
    return start_form(ctx, transcoder, train)


run_page("pages/train.py", page)
