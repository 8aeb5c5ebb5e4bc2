"""What was rated so far: answers, agreement, CSV."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.words import count
from scx_core.atlas import Atlas
from scx_core.atlas.rating.ratings import agreement, rating_table
from scx_core.figures import table_csv
from scx_core.figures.drawing.text import plain

_KAPPA = (
    "Cohen's κ: agreement beyond what chance gives; 1 is full, 0 is chance. Not defined where both always "
    "say the same."
)


def rating_results(atlas: Atlas, reveal: bool) -> None:
    """Agreement and answers, without the units' names while a person is still rating."""
    table = rating_table(atlas)
    if table.empty:
        return
    raters = list(dict.fromkeys(table["rater"]))
    with st.expander(f"{count(len(table), 'answer')} of {count(len(raters), 'rater')}", expanded=reveal):
        _agreement(atlas)
        if reveal:
            _answers(table)
        else:
            st.caption("The answers are shown when you are through, so that no verdict guides you.")
        st.download_button(
            "Answers (CSV)", table_csv(table.astype(object)), "ratings.csv", "text/csv",
            icon=":material/download:", type="tertiary", on_click="ignore", key="ratings csv",
        )  # fmt: skip


def _agreement(atlas: Atlas) -> None:
    rows = pd.DataFrame([one._asdict() for one in agreement(atlas)])
    if rows.empty:
        return
    for name in ("first", "second"):
        rows[name] = [plain(value, 40) for value in rows[name]]
    config = st.column_config
    columns = {
        "first": config.TextColumn("Rater"),
        "second": config.TextColumn("Against"),
        "about": config.TextColumn("About"),
        "units": config.NumberColumn("Units", help="That both judged."),
        "share": config.NumberColumn("Equal", format="percent"),
        "kappa": config.NumberColumn("κ", format="%.2f", help=_KAPPA),
    }
    st.markdown("**Agreement**", help=_KAPPA)
    st.dataframe(rows, column_config=columns, hide_index=True)


def _answers(table: pd.DataFrame) -> None:
    shown = table.assign(
        unit=[f"L{layer}·{number}" for layer, number in zip(table["layer"], table["feature"], strict=True)]
    )
    for name in ("rater", "description"):
        shown[name] = [plain(value, 120) for value in shown[name]]
    config = st.column_config
    columns = {
        "rater": config.TextColumn("Rater"),
        "kind": config.TextColumn("Kind"),
        "unit": config.TextColumn("Unit"),
        "interpretable": config.CheckboxColumn("One thing"),
        "category": config.TextColumn("Category"),
        "description": config.TextColumn("In words", width="medium"),
        "verdict": config.TextColumn("Automatic verdict"),
    }
    st.markdown("**Answers**")
    st.dataframe(shown, column_config=columns, column_order=list(columns), hide_index=True)
