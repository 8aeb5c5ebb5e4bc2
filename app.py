"""The dashboard: `streamlit run app.py`."""

from pathlib import Path

import streamlit as st

from scx_core.environment import prepare_process

# Files of ours: Streamlit fetches its own icons and emojis from the internet.
PARTS = Path(__file__).parent / "pages" / "parts"
ICON, LOGO = PARTS / "icon.svg", PARTS / "logo.svg"

prepare_process()  # before a page imports torch
# The menu first: until it is known, Streamlit shows the names of the files in pages.
st.set_page_config(page_title="scX", page_icon=ICON, layout="wide", initial_sidebar_state=250)
st.logo(LOGO, size="large", icon_image=ICON)
page = st.navigation(
    [
        st.Page("pages/start.py", title="Start", icon=":material/home:", default=True),
        st.Page("pages/data.py", title="Data", icon=":material/grid_on:"),
        st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
        st.Page("pages/validate.py", title="Validate", icon=":material/verified:"),
        st.Page("pages/circuits.py", title="Circuits", icon=":material/hub:"),
        st.Page("pages/evidence.py", title="Evidence", icon=":material/stairs:"),
        st.Page("pages/features.py", title="Features", icon=":material/category:"),
        st.Page("pages/rate.py", title="Rate", icon=":material/rate_review:"),
        # Not in the menu: every help text leads to it, and the side bar.
        st.Page("pages/words.py", title="Words", icon=":material/menu_book:", visibility="hidden"),
    ]
)

from pages.parts.common.page import go_to_wanted, page_begins, page_is_drawn, style
from pages.parts.common.sidebar import context_panel

page_begins()
style()
go_to_wanted()
with st.sidebar:
    write_names = context_panel()
page.run()
write_names()
page_is_drawn()
