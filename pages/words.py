"""Words: what does a term mean? The help texts of the dashboard lead here, to their term."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.parts.common.address import LONGEST, View
from pages.parts.common.messages import heading
from pages.parts.common.page import run_page
from pages.parts.common.session import last, put
from pages.parts.common.words import anchors, glossary

TERM = "term of the words"


def page() -> None:
    """The term that a link asked for, then every term by the alphabet; a field narrows them."""
    heading("Words", "What does a term mean? One definition each, the same in every help text.")
    where, asked = anchors(), last(TERM, "")
    for term, words in glossary():
        if where[term] == asked:
            st.info(f"**{term}**: {words}", icon=":material/menu_book:")
    wanted = st.text_input("Find", placeholder="FVU, consensus, stand-in …", width=320, key="words wanted")
    found = wanted.strip().lower()
    shown = [one for one in glossary() if found in " ".join(one).lower()]
    for term, words in shown:
        with st.container(gap=None):
            st.subheader(term, anchor=where[term])
            st.markdown(words)
    if not shown:
        st.info("No term and no definition holds that.")


def _take(found: Mapping[str, str]) -> None:
    """The term that an address asks for."""
    put(TERM, found.get("term", "")[:LONGEST])


run_page("pages/words.py", page, View(_take, lambda: {"term": str(last(TERM, ""))}))
