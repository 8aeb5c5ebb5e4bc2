"""Validate: may I trust the stand-ins?"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.in_use import settled
from pages.parts.common.messages import heading, next_step, shown_errors
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context
from pages.parts.common.tasks import at_work, begin, waits
from pages.parts.common.words import STAND_INS, count
from pages.parts.validate.compare_runs import compare_view
from pages.parts.validate.validation_view import (
    known,
    rows_to_measure,
    task,
    validation_view,
    work,
)
from scx_core.tasks.estimates import START, here
from scx_core.validation import ValidationRows, draw_rows
from scx_core.validation.warnings import NOT, judged

FEW = 100


def page() -> None:
    """The set in use; below it, the trainings side by side."""
    heading(
        "Validate",
        f"May I trust the {STAND_INS}? Every MLP is replaced, on cells that nothing was trained on.",
    )
    with shown_errors():
        _in_use()
    compare_view()


def _in_use() -> None:
    """What is known, or a button that measures it."""
    ctx = context()
    if not settled(ctx):
        return
    rows = rows_to_measure(ctx)
    found, here = known(ctx)
    place = st.container()
    left, middle, _, right = st.columns([1.3, 1.4, 2.6, 1.4], vertical_alignment="bottom")
    _ask(ctx, rows, found is not None, left, middle)
    if found is None:
        place.info("Nothing is measured yet for these cells, this model and these transcoders.")
        return
    if not here:
        place.caption("Measured when the set was made; the table lies beside it. Measure again to check it.")
    if judged(found).read != NOT:
        with right:
            next_step("pages/circuits.py", "Go to the circuits")
    validation_view(found)


def _ask(
    ctx: Context, rows: ValidationRows, again: bool, left: DeltaGenerator, right: DeltaGenerator
) -> None:
    """The cells to measure on, a button that starts the job, and what it will take; or the job as far as it
    is. What was known before stays until it is done."""
    most = len(rows.test)
    n = int(
        left.number_input(
            "Test cells",
            min(2, most), most, min(most, max(FEW, 2)), step=10,
            help=f"Of {count(most, 'test cell')}, drawn with a seed. More cells, surer figures.",
        )
    )  # fmt: skip
    label, kind = ("Measure again", "secondary") if again else ("Measure", "primary")
    chosen = rows._replace(test=draw_rows(rows.test, n))
    asked = task(ctx, chosen)
    if right.button(label, type=kind, width="stretch", disabled=at_work(asked)):
        begin(asked)
    if not waits(asked) and n:
        st.caption(_work_words(ctx, chosen))


def _work_words(ctx: Context, rows: ValidationRows) -> str:
    """What measuring takes, opening everything included, as the last measurements took here."""
    found = work(ctx, rows)
    longer = here("validation", START + found.seconds) / found.seconds
    parts = {name: seconds * longer for name, seconds in found.parts.items()}
    return found._replace(seconds=found.seconds * longer, parts=parts).words()


run_page("pages/validate.py", page)
