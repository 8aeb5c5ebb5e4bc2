"""The side bar: what is in use, a way to change it, and the running jobs, on every page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import in_use
from pages.parts.common.jobs import running_panel
from pages.parts.common.messages import shown_errors
from pages.parts.common.session import context, go_on_with, offered, use, use_default
from pages.parts.common.words import HELP, glossary, safe

_PLACES = ("auto", "cpu", "cuda")


def context_panel() -> Callable[[], None]:
    """Cells, model, transcoders, device, jobs; gives back what writes the names again."""
    st.markdown("##### In use")
    place = st.empty()
    _names(place)
    with st.popover("Change", icon=":material/tune:", width="stretch"), shown_errors():
        _choosers()
    with st.popover("Words", icon=":material/menu_book:", width="stretch"):
        st.page_link("pages/words.py", label="As a page", icon=":material/open_in_full:")
        st.markdown("\n".join(f"- **{safe(term)}**: {words}" for term, words in glossary()))
    offer = st.empty()
    with offer:
        _offer()
    st.markdown("##### Jobs")
    running_panel()
    return partial(_again, place, offer)


def _again(place: DeltaGenerator, offer: DeltaGenerator) -> None:
    """What is in use after the page ran: a link may have brought what would be offered."""
    _names(place)
    if offered() is None:
        offer.empty()


def _names(place: DeltaGenerator) -> None:
    """What is in use; the device is known once torch is loaded."""
    ctx = context()
    lines = (
        ("Cells", in_use.cells_name(ctx.data)),
        ("Model", in_use.model_name(ctx.model)),
        ("Transcoders", in_use.set_name(ctx.transcoders)),
        ("Device", in_use.device_name(ctx.device)),
    )
    place.markdown("  \n".join(f":gray[{what}] {safe(name)}" for what, name in lines))


def _offer() -> None:
    """What was used last on this computer, which may be another person's: one click away, never imposed."""
    before = offered()
    if before is not None:
        parts = (in_use.cells_name(before.data), in_use.model_name(before.model))
        st.button(
            f"Go on with {safe(parts[0])}", icon=":material/history:", width="stretch", on_click=go_on_with,
            args=(before,), key="go on with the last",
            help="Used last on this computer, by you or somebody else: "
            f"{safe(' · '.join((*parts, in_use.set_name(before.transcoders))))}.",
        )  # fmt: skip


def _choosers() -> None:
    ctx = context()
    st.page_link("pages/data.py", label="Choose other cells", icon=":material/grid_on:")
    _chooser(
        "Model", "model", in_use.models(ctx), in_use.model_name,
        "A finished build, or the folder or Hugging Face hub id of a causal language model (safetensors).",
    )  # fmt: skip
    _chooser(
        "Transcoders", "transcoders", in_use.sets(ctx), in_use.set_name,
        f"{HELP['transcoders']} A finished training of this model, or a folder.",
    )  # fmt: skip
    places = tuple(dict.fromkeys((*_PLACES, ctx.device)))
    _chooser("Device", "device", places, str, "auto takes a CUDA GPU where there is one.")
    st.button("Back to the embedded default", on_click=use_default, width="stretch")


def _chooser(
    label: str, name: str, options: tuple[str, ...], words: Callable[[str], str], explanation: str
) -> None:
    """One part of the context; another value than those listed may be typed."""
    now = getattr(context(), name)
    st.selectbox(
        label,
        options,
        index=options.index(now),
        format_func=words,
        accept_new_options=True,
        help=explanation,
        key=f"use {name} {now}",
        on_change=_changed,
        args=(name, f"use {name} {now}"),
    )


def _changed(name: str, key: str) -> None:
    chosen = st.session_state[key]
    if chosen:
        use(**in_use.following(name, str(chosen)))
