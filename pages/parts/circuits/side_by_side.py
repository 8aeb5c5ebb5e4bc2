"""Two cell types beside each other: shared places, one scale, a slider over how much must differ, one
figure."""

from __future__ import annotations

import streamlit as st

from pages.parts.circuits import graph
from pages.parts.circuits.tracing import Request, sides
from pages.parts.common.naming import named
from pages.parts.common.results import download
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.circuits.difference import Difference
from scx_core.figures import View, markers_of
from scx_core.figures.formats.export import safe_name
from scx_core.figures.pair import Pair, pair_caption, pair_picture, paired

FORMATS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
CHOSEN, SEEN = "scx_pair_chosen", "scx_pair_gesture"
KEYS = ("pair first", "pair second")


def side_by_side(ctx: Context, request: Request) -> None:
    """The two circuits behind a difference; nothing where they are not at hand."""
    found = sides(ctx, request)
    if found is None:
        return
    found = found._replace(first=named(found.first), second=named(found.second))
    _both(found)


@st.fragment
def _both(found: Difference) -> None:
    st.markdown(f"### {safe(found.names[0])} beside {safe(found.names[1])}")
    markers = markers_of(found.first)[0] or frozenset()
    words = "Leaves out what differs by less than this share of the largest difference of two effects."
    least = st.slider("Differs by at least", 0, 100, 0, 5, format="%d%%", help=words, key="pair least") / 100
    pair = paired(found, View(size="screen"), least=least, markers=markers)
    chosen = _chosen(pair)
    for place, key, drawing in zip(st.columns(2), KEYS, (pair.first, pair.second), strict=True):
        with place:
            st.markdown(f"**{safe(drawing.title)}** :gray[{safe(drawing.subtitle)}]")
            graph.picture(drawing, key, chosen=chosen, same=True, fixed=True)
    st.caption(safe(pair_caption(found, pair, least)))
    with st.container(horizontal=True):
        name = safe_name(f"{found.names[0]} beside {found.names[1]}")
        for form, mime in FORMATS.items():
            download(
                f"Both as {form.upper()}",
                lambda form=form: pair_picture(found, form, least=least, markers=markers),
                f"{name}.{form}", mime, key=f"pair {form}", kind="secondary",
            )  # fmt: skip


def _chosen(pair: Pair) -> tuple[str, ...]:
    """What was chosen last, on either side: it is lit on both."""
    for key, drawing in zip(KEYS, (pair.first, pair.second), strict=True):
        found = graph.reported(key, drawing)
        seen = st.session_state.setdefault(SEEN, {})
        if found is not None and found.kind == "choose" and seen.get(key) != found.at:
            seen[key] = found.at
            st.session_state[CHOSEN] = found.ids
    return st.session_state.get(CHOSEN, ())
