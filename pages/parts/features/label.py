"""A person's label of a feature: given with a name, kept with the time, shown in circuits and exports."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import kept_widgets as kept
from pages.parts.common.messages import shown_errors
from pages.parts.common.words import safe
from scx_core.atlas import Atlas, Feature


def feature_label(atlas: Atlas, found: Feature, label: str) -> None:
    """The form, and who gave which label when."""
    layer, feature = int(found.row["layer"]), int(found.row["feature"])
    st.markdown("### Label", help="Yours wins over the automatic one, here, in circuits and in exports.")
    with st.form(f"label {layer} {feature} {len(found.labels)}", border=False):
        text, who, go = st.columns([4, 1.6, 1], vertical_alignment="bottom")
        typed = text.text_input("Label", value=label, max_chars=200, help="Empty: back to the automatic one.")
        author = who.text_input(
            "Your name", value=kept.last("label author", ""), placeholder="initials will do"
        )
        if go.form_submit_button("Keep it", type="primary", width="stretch"):
            with shown_errors():
                atlas.give_label(layer, feature, typed, author)
                kept.put("label author", author)
                st.rerun()
    automatic = str(found.row["label"])
    history = [
        f"{safe(one.time.replace('T', ' ')[:16])} UTC, {safe(one.author)}: "
        + (f"**{safe(one.label)}**" if one.label else "taken back")
        for one in reversed(found.labels)
    ]
    st.caption("  \n".join([*history, f"Automatic: {safe(automatic)}"]))
