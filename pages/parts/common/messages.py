"""Messages: a user's mistake is shown as what is wrong and what to do, never as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import streamlit as st

from pages.parts.common.words import safe
from scx_core.errors import ScxError
from scx_core.runs.files import full_or_refused


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show a ScxError that is raised inside, or what the disk refuses; what follows in the page goes on."""
    try:
        yield
    except ScxError as error:
        show_error(error)
    except OSError as error:
        told = full_or_refused(error)
        if told is None:
            raise
        show_error(told)


def show_error(error: ScxError) -> None:
    """The problem in bold, the remedy below it."""
    remedy = f"\n\n{safe(error.remedy)}" if error.remedy else ""
    st.error(f"**{safe(error.problem)}**{remedy}", icon=":material/error:")


def heading(title: str, question: str) -> None:
    """A page's title and the question that it answers, in Markdown: terms may be links (`words.word`)."""
    st.title(title, anchor=False)
    st.markdown(f":gray[{question}]")


def next_step(page: str, label: str, width: Literal["stretch", "content"] = "stretch") -> None:
    """What to do after this page: its primary action once its own is done."""
    if st.button(label, type="primary", icon=":material/arrow_forward:", width=width):
        st.switch_page(page)
