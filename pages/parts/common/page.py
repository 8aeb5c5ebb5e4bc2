"""How every page is run and looks: inside the app, with a user's mistakes shown as messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Event, Lock, Thread

import streamlit as st

from pages.parts.common import address
from pages.parts.common.address import View
from pages.parts.common.messages import shown_errors
from pages.parts.common.session import context

SOURCES_ALONE = View()
_APP, _WANTED = "scx_app", "scx_wanted_page"
# What the circuits page imports, in steps of half a second at most.
_NEXT = (
    "scx_core.circuits",
    "scx_core.figures",
    "altair",
    "scx_core.figures.report",
    "scx_core.tasks.makers",
)
_BUSY, _IMPORTING = Event(), Lock()
# The few things that Streamlit's theme cannot say.
_STYLE = """
<style>
.block-container, [data-testid="stMainBlockContainer"] { padding: 2.6rem 2.4rem 3rem; max-width: 1500px; }
h1 { font-size: 1.9rem !important; padding-bottom: 0 !important; }
h3 { font-size: 1.12rem !important; }
[data-testid="stSidebar"] h5 { padding: 0.4rem 0 0; }
[data-testid^="stBaseButton"] p { white-space: normal; overflow-wrap: anywhere; }
.stMarkdownBadge { white-space: normal !important; overflow-wrap: anywhere; }
[data-testid="stMetricValue"] { font-size: 1.5rem; }
[class*="st-key-scrolled"] { overflow-x: auto; }
.st-key-last { max-width: 900px; }
.st-key-last img { max-height: calc(100vh - 12.5rem); object-fit: contain; object-position: left;
  background: #fff; border-radius: 6px; }
@media (max-width: 1200px) {
  [data-testid="stSidebar"] { min-width: 205px !important; max-width: 205px !important; }
  [data-testid="stSidebarContent"] > div { padding-left: 1rem !important; padding-right: 1rem !important; }
  .block-container, [data-testid="stMainBlockContainer"] { padding-left: 1.6rem; padding-right: 1.6rem; }
  .st-key-stacked [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
  .st-key-stacked [data-testid="stColumn"] { min-width: 100%; }
}
@media (max-width: 700px) {
  .block-container, [data-testid="stMainBlockContainer"] { padding: 2.6rem 1rem 2rem; }
}
</style>
"""


def run_page(path: str, body: Callable[[], None], view: View | None = SOURCES_ALONE) -> None:
    """Run the page `path` ("pages/start.py"); what is in use and its `view` stand in the address. None: the
    page reads and writes the address itself.

    When the first address that a fresh server is asked for is a page's own, Streamlit runs that file without
    `app.py`, because it lies in a folder called pages. Then `app.py` is run, and goes to the page, with
    what the address asked for behind the "?".
    """
    if _APP not in st.session_state:
        st.session_state[_WANTED] = path, st.query_params.to_dict()
        st.switch_page("app.py")
    st.session_state[address.PAGE] = path
    with shown_errors():
        if view is not None and not address.read(view.take):
            return
        body()
    if view is not None:
        address.write(context(), view.give())


def go_to_wanted() -> None:
    """For `app.py`: to the page that was asked for without it."""
    st.session_state[_APP] = True
    path, query = st.session_state.pop(_WANTED, (None, {}))
    if path is not None:
        st.switch_page(path, query_params=query)


def page_begins() -> None:
    """For `app.py`, before it runs a page: imports ahead of time end with the step that they are in. Two
    threads that import at once may meet half-made modules."""
    _BUSY.set()
    with _IMPORTING:
        pass


def page_is_drawn() -> None:
    """For `app.py`, at its end: while the person reads, import what the circuits page needs, a second and
    more that its first visit would wait for."""
    _BUSY.clear()
    if not all(name in sys.modules for name in _NEXT):
        Thread(target=_import_ahead, daemon=True).start()


def _import_ahead() -> None:
    with suppress(ImportError):  # told by the page that needs it
        for name in _NEXT:
            with _IMPORTING:
                if _BUSY.is_set():
                    return
                import_module(name)


def style() -> None:
    """Less empty margin, quieter headings."""
    st.html(_STYLE)
