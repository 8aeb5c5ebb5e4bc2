"""The few things that Streamlit's theme cannot say."""

from __future__ import annotations

import streamlit as st

_STYLE = """
<style>
.block-container, [data-testid="stMainBlockContainer"] { padding: 2.6rem 2.4rem 3rem; max-width: 1500px; }
h1 { font-size: 1.9rem !important; padding-bottom: 0 !important; }
h3 { font-size: 1.12rem !important; }
[data-testid="stSidebar"] h5 { padding: 0.4rem 0 0; }
[data-testid^="stBaseButton"] p { white-space: normal; overflow-wrap: anywhere; }
[data-testid="stMetricValue"] { font-size: 1.5rem; }
@media (max-width: 700px) {
  .block-container, [data-testid="stMainBlockContainer"] { padding: 2.6rem 1rem 2rem; }
}
</style>
"""


def style() -> None:
    """Less empty margin, quieter headings."""
    st.html(_STYLE)
