"""Who looks at the page: a beginner, who sees the cell type, the number of cells, the picture and its words;
an expert, who sees every setting; an audience, who sees the picture alone, in large type.

What one of them does not see is drawn all the same and hidden, so that whatever an expert set stays set, and
is in effect.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.circuits.address import EXPERT, PRESENTING
from pages.parts.circuits.tracing import Request
from pages.parts.common.session import kept, last, put
from pages.parts.common.words import count, safe
from scx_core.circuits import ConsensusConfig, TraceConfig
from scx_core.figures import View

HIDDEN = "for-experts"  # how the keys of what a beginner does not see begin
_ALL = "Shows every setting and every further question. Nothing that is set is lost without it."
_PRESENT = (
    "The picture alone, in large type, over the whole window. ← and → go to the cell type before and after, "
    "Escape leaves."
)


def expert() -> bool:
    """Whether every setting is shown."""
    return bool(last(EXPERT, False))


def presenting() -> bool:
    """Whether an audience looks."""
    return bool(last(PRESENTING, False))


def switches() -> None:
    """The two switches, in the line of the page's title."""
    kept(st.toggle, "All settings", EXPERT, False, help=_ALL, width="content")
    st.button(
        "Present",
        icon=":material/slideshow:",
        type="tertiary",
        on_click=put,
        args=(PRESENTING, True),
        help=_PRESENT,
    )
    if not expert():
        own = f'[class*="st-key-{HIDDEN}"]'
        around = f'[data-testid="stLayoutWrapper"]:has(> {own})'
        st.html(f"<style>{own}, {around} {{ display: none; }}</style>")


def for_experts(name: str, place: Any = st, **more: Any) -> DeltaGenerator:
    """A place for what a beginner does not see; `name` once a page."""
    return place.container(key=f"{HIDDEN}-{name}", **more)


def set_by_an_expert(request: Request, shown: View) -> None:
    """What a beginner does not see and is in effect."""
    if expert():
        return
    parts = [f"against {safe(request.against)}"] if request.against else []
    parts += ["a difference of two types"] if request.less else []
    same = dataclasses.replace(request.consensus, cells=ConsensusConfig().cells)
    pairs = ((request.trace, TraceConfig()), (same, ConsensusConfig()), (shown, View(size="wide")))
    n = sum(
        getattr(now, one.name) != getattr(first, one.name)
        for now, first in pairs
        for one in dataclasses.fields(first)
    )
    parts += [count(n, "setting") + " of tracing and drawing"] if n else []
    if parts:
        st.caption(f":material/tune: Set under “All settings” and in effect: {', '.join(parts)}.")


def keys(label: str, types: list[str]) -> None:
    """Buttons for an audience's keys; seen while the pointer or the focus is on them."""
    at = types.index(label)
    with st.container(horizontal=True, key="presenter-keys"):
        for words, key, step in (("Type before", "Left", -1), ("Type after", "Right", 1)):
            other = types[(at + step) % len(types)]
            st.button(words, shortcut=key, on_click=put, args=("label", other), type="tertiary")
        st.button("Leave", shortcut="Escape", on_click=put, args=(PRESENTING, False), type="tertiary")
        st.caption(f"{at + 1} of {len(types)}")
    st.html(_STYLE)


_STYLE = """
<style>
html { font-size: 21px; }
[data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stSidebarCollapsedControl"],
[data-testid="stExpandSidebarButton"], .st-key-not-presented { display: none; }
[data-testid="stMainBlockContainer"] { padding: 0.4rem 1rem; max-width: none; }
[data-testid="stMainBlockContainer"] p { font-size: 1rem; }
[data-testid="stMainBlockContainer"] h1 { font-size: 2rem !important; padding: 0 !important; }
.st-key-presenter-keys { position: fixed; right: 1rem; top: 0.4rem; z-index: 9; opacity: 0; }
.st-key-presenter-keys:hover, .st-key-presenter-keys:focus-within { opacity: 1; }
</style>
"""
