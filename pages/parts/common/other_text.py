"""Transcoders that were trained on another text than the model is given: refused, or used as they are."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.messages import show_error
from pages.parts.common.session import Context, use
from pages.parts.common.words import safe
from scx_core.errors import ScxError


def settled(ctx: Context) -> bool:
    """Whether the set in use may be used: trained on this text, or a person said to use it all the same. Says
    which, where they differ. Raises ScxError when model or set cannot be opened."""
    from scx_core.transcoders.check import AS_IS, check_set, opened_as_is, other_text_words

    lm, found = loaders.language(ctx), loaders.transcoders(ctx)
    told = other_text_words(lm, found)
    if not told:
        return True
    if AS_IS in found.meta:
        left, right = st.columns([5, 1.4], vertical_alignment="center")
        left.warning(f"{safe(told)} They are used as they are, and every result says so.")
        right.button("Do not use them so", on_click=use, kwargs={"as_is": False}, width="stretch")
        return True
    try:
        check_set(lm, opened_as_is(lm, found))  # of another shape they are of no use on any text
    except ScxError as error:
        show_error(error)
        return False
    show_error(ScxError(told, "Choose a set that was trained on this text, or train one (page Train)."))
    st.button("Use it all the same (marked)", on_click=use, kwargs={"as_is": True})
    return False
