"""One blinded unit with its questions, and what was rated so far: answers, agreement, CSV."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, download, table
from pages.parts.common.words import count, percent
from scx_core.atlas import Atlas
from scx_core.atlas.judge.protocol import MEANINGS
from scx_core.atlas.rating.ratings import (
    CATEGORIES,
    QuantileBin,
    Unit,
    agreement,
    quantile_bins,
    rate,
    rating_table,
)
from scx_core.figures import table_csv
from scx_core.figures.coloured_text import Shown, examples_html
from scx_core.figures.drawing.text import plain

YES, NO = "Yes", "No"
MIXED = "polysemantic"
_KAPPA = (
    "Cohen's κ: agreement beyond what chance gives; 1 is full, 0 is chance. Not defined where both always "
    "say the same."
)


def shown_unit(atlas: Atlas, unit: Unit) -> None:
    """Its examples, the strongest bin first. Nothing says which unit it is, or of what kind."""
    for part in quantile_bins(atlas, unit):
        st.markdown(f"**Activations: {part.name}**")
        st.html(examples_html(_examples(part), 1.0))


def _examples(part: QuantileBin) -> list[Shown]:
    rows = []
    for row in part.examples.itertuples():
        about = f"{percent(row.relative)} {row.gene if isinstance(row.gene, str) else ''}"
        rows.append(Shown(row.texts, row.values, row.position - row.start, (about, str(row.cell_type or ""))))
    return rows


def questions(atlas: Atlas, unit: Unit, rater: str, number: int) -> bool:
    """The form; whether an answer was kept. `number` keeps the widgets of one unit from the next one's."""
    with st.form(f"rate {number} {rater}"):
        left, right = st.columns([1, 2])
        means = left.radio(
            "Does it respond to one thing?", (YES, NO), index=None, horizontal=True,
            help="Yes when you could tell where it fires next.",
        )  # fmt: skip
        category = right.selectbox(
            "What to?", CATEGORIES, index=None, placeholder="A category of the protocol",
            format_func=lambda name: f"{name}: {MEANINGS[name]}",
        )  # fmt: skip
        words = st.text_input("In a few words", placeholder="HLA class II genes in B cells")
        keep = st.form_submit_button("Keep and go on", type="primary", icon=":material/arrow_forward:")
    if not keep:
        return False
    if means is None or (means == YES and category is None):
        st.warning("Answer the first question, and with a yes the second.")
        return False
    with shown_errors():
        rate(atlas, unit, means == YES, category or MIXED, words, rater)
        return True
    return False


def rating_results(atlas: Atlas, reveal: bool) -> None:
    """Agreement and answers, without the units' names while a person is still rating."""
    answers = rating_table(atlas)
    if answers.empty:
        return
    raters = list(dict.fromkeys(answers["rater"]))
    with st.expander(f"{count(len(answers), 'answer')} of {count(len(raters), 'rater')}", expanded=reveal):
        _agreement(atlas)
        if reveal:
            _answers(answers)
        else:
            st.caption("The answers are shown when you are through, so that no verdict guides you.")
        download("Answers (CSV)", table_csv(answers.astype(object)), "ratings.csv", key="ratings csv")


def _agreement(atlas: Atlas) -> None:
    rows = pd.DataFrame([one._asdict() for one in agreement(atlas)])
    if rows.empty:
        return
    for name in ("first", "second"):
        rows[name] = [plain(value, 40) for value in rows[name]]
    columns: dict[str, Column] = {
        "first": ("Rater",),
        "second": ("Against",),
        "about": ("About",),
        "units": ("Units", "", "That both judged."),
        "share": ("Equal", "percent"),
        "kappa": ("κ", "%.2f", _KAPPA),
    }
    st.markdown("**Agreement**", help=_KAPPA)
    table(rows, columns, column_order=None)


def _answers(answers: pd.DataFrame) -> None:
    units = zip(answers["layer"], answers["feature"], strict=True)
    shown = answers.assign(unit=[f"L{layer}·{number}" for layer, number in units])
    for name in ("rater", "description"):
        shown[name] = [plain(value, 120) for value in shown[name]]
    columns: dict[str, Column] = {
        "rater": ("Rater",),
        "kind": ("Kind",),
        "unit": ("Unit",),
        "interpretable": ("One thing", "switch"),
        "category": ("Category",),
        "description": ("In words", None, None, "medium"),
        "verdict": ("Automatic verdict",),
    }
    st.markdown("**Answers**")
    table(shown, columns)
