"""Rate: do people find in the features what the protocol says of them?"""

from __future__ import annotations

import streamlit as st

from pages.parts.common.messages import heading
from pages.parts.common.page import run_page
from pages.parts.common.session import context, kept
from pages.parts.features import atlas_source
from pages.parts.rate.rating import questions, rating_results, shown_unit
from scx_core.atlas import Atlas
from scx_core.atlas.rating.ratings import PAPER_LAYER, DrawConfig, Unit, draw_units, paper_draw, ratings

PAPER, BLINDED = "As in the paper", "Kinds mixed"
PER_KIND = 10
SKIPPED = "scx_rate_skipped"


def page() -> None:
    """Who rates what, one unit at a time, and how far the answers agree."""
    heading("Rate", "Do people find in the features what the automatic verdicts say?")
    atlas = atlas_source.atlas_in_use(context())
    if atlas is None:
        return
    rater, cfg = _controls(atlas)
    units = draw_units(atlas, cfg)
    if not rater:
        st.info("Give your name to begin: answers are kept for each rater.")
        rating_results(atlas, reveal=False)
        return
    done = {one.unit for one in ratings(atlas) if one.rater == rater}
    skipped = st.session_state.setdefault(SKIPPED, set())
    left = [unit for unit in units if unit not in done and (rater, unit) not in skipped]
    st.progress(1 - len(left) / len(units), text=f"{len(units) - len(left)} of {len(units)} units")
    if left:
        _next(atlas, left[0], rater, len(units) - len(left))
    else:
        st.success("You are through. Another seed draws other units.", icon=":material/check:")
    rating_results(atlas, reveal=not left)


def _controls(atlas: Atlas) -> tuple[str, DrawConfig]:
    """Rater and draw."""
    with st.container(border=True):
        who, what, number = st.columns([2, 3, 1], vertical_alignment="bottom")
        rater = kept(who.text_input, "Your name", "rater", "", placeholder="initials will do")
        preset = kept(
            what.selectbox, "Which units", "rate preset", PAPER, (PAPER, BLINDED),
            format_func=lambda name: _words(atlas, name),
        )  # fmt: skip
        words = "Everyone with the same seed gets the same units, so that raters can be compared."
        seed = int(kept(number.number_input, "Seed", "rate seed", 0, min_value=0, step=1, help=words))
        cfg = paper_draw(atlas, seed)
        if preset == PAPER and cfg.layer != PAPER_LAYER:
            st.caption(
                f"The paper took layer {PAPER_LAYER}; this model has {atlas.meta['n_layers']} layers, so it "
                f"is the middle one, layer {cfg.layer}."
            )
    return " ".join(rater.split()), cfg if preset == PAPER else DrawConfig(PER_KIND, None, True, seed)


def _words(atlas: Atlas, preset: str) -> str:
    cfg = paper_draw(atlas)
    if preset == PAPER:
        return f"{PAPER}: {cfg.units} random live features of layer {cfg.layer}"
    return f"{BLINDED}: {PER_KIND} of each kind, all layers ({1 + len(atlas.beside)} kinds)"


def _next(atlas: Atlas, unit: Unit, rater: str, number: int) -> None:
    """One unit: the questions first, so that they stay where they are."""
    title, skip = st.columns([6, 1], vertical_alignment="center")
    title.markdown(
        f"### Unit {number + 1}",
        help="Percentages are shares of the unit's largest activation. Which unit it is, and whether a "
        "feature or a raw neuron, is not shown.",
    )
    if skip.button("Skip", width="stretch", help="It comes again in your next visit."):
        st.session_state[SKIPPED].add((rater, unit))
        st.rerun()
    if questions(atlas, unit, rater, number):
        st.rerun()
    shown_unit(atlas, unit)


run_page("pages/rate.py", page)
