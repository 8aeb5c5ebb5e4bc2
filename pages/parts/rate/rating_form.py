"""One blinded unit: examples by quantile bins, the questions, and the answer that is kept."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.words import percent
from scx_core.atlas import Atlas
from scx_core.atlas.judge.protocol import MEANINGS
from scx_core.atlas.rating.ratings import CATEGORIES, QuantileBin, Unit, quantile_bins, rate
from scx_core.figures.examples import Shown, examples_html

YES, NO = "Yes", "No"
MIXED = "polysemantic"


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
