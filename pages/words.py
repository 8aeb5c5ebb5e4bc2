"""Words: what does a term mean? Every help text of the dashboard leads here, to its term."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.messages import heading
from pages.parts.common.page import run_page
from pages.parts.common.words import anchors, glossary


def page() -> None:
    """Every term under an anchor of its own, by the alphabet; a field narrows them."""
    heading("Words", "What does a term mean? One definition each, the same in every help text.")
    wanted = st.text_input("Find", placeholder="FVU, consensus, stand-in …", width=320, key="words wanted")
    where, found = anchors(), wanted.strip().lower()
    shown = [one for one in glossary() if found in " ".join(one).lower()]
    for term, words in shown:
        with st.container(gap=None):
            st.subheader(term, anchor=where[term])
            st.markdown(words)
    if not shown:
        st.info("No term and no definition holds that.")


run_page("pages/words.py", page)
