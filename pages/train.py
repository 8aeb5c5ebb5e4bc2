"""Train: how good can the stand-ins get, and when are they ready?"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts.common import in_use, loaders
from pages.parts.common.messages import heading, shown_errors
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.words import HELP, STAND_INS, safe
from pages.parts.train.new_run import build_form, preset_cards, settings, start_form
from pages.parts.train.run_list import run_list

TRANSCODERS, MODEL = "Transcoders for the model in use", "A small model on the cells in use"


def page() -> None:
    """What to train, the runs; the estimate last, so that nothing waits for it."""
    heading("Train", f"How good can the {STAND_INS} get, and when are they ready?")
    with st.container():
        cost = _what_to_train()
    with shown_errors():
        run_list()
    with shown_errors():
        cost()


def _what_to_train() -> Callable[[], None]:
    """The settings and the start; gives back what fills in the estimate."""
    ctx = context()
    # Cells of one's own and the embedded model, which never saw them: a model comes first, unless a person
    # said which of its answers their types are.
    foreign = ctx.model == "embedded" and ctx.data != "embedded" and ctx.cells.answers is None
    first = MODEL if foreign else TRANSCODERS
    what = st.segmented_control(
        "What to train", [TRANSCODERS, MODEL], default=first, required=True, key="train what"
    )
    # Two places, so that the form that is left goes at once and not when all of the page is drawn.
    forms = {TRANSCODERS: (st.empty(), _transcoders), MODEL: (st.empty(), build_form)}
    for name, (place, _) in forms.items():
        if name != what:
            place.empty()
    place, form = forms[str(what)]
    with place.container(), shown_errors():
        return form(ctx)
    return lambda: None


def _transcoders(ctx: Context) -> Callable[[], None]:
    st.markdown(
        f"Stand-ins for every MLP of **{safe(in_use.model_name(ctx.model))}**, trained on "
        f"**{safe(in_use.cells_name(ctx.data))}**.",
        help=HELP["transcoders"],
    )
    made_from = loaders.language(ctx).settings.get("data", {})
    if made_from.get("fingerprint") not in (None, loaders.cells(ctx).fingerprint):
        st.caption(
            f":orange[:material/info:] The model was made from other cells ({safe(made_from['name'])}). For "
            "one that knows the types of yours, choose the small model above."
        )
    transcoder, train = settings(preset_cards())
    return start_form(ctx, transcoder, train)


run_page("pages/train.py", page)
