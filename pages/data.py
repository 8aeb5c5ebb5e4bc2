"""Data: is my file understood?"""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.in_use import with_cells
from pages.parts.common.messages import heading, next_step, show_error
from pages.parts.common.page import run_page
from pages.parts.common.session import context, use
from pages.parts.common.words import count, safe
from pages.parts.data.cell_source import cell_source, check_list, draft, say_where, start_again
from pages.parts.data.cell_views import cell_views
from pages.parts.data.model_reads import reading_view
from scx_core.cells import CellChoices, CellTable
from scx_core.errors import ScxError


def page() -> None:
    """Source, check-list, views, and the primary action."""
    heading("Data", "Is my file understood? Every line can be corrected.")
    source = cell_source()
    if source is None:
        return
    ctx = context()
    choices = draft(source, ctx.cells if source == ctx.data else CellChoices())
    try:
        table = loaders.opened(source, choices, require_labels=False)
    except ScxError as error:
        show_error(error)
        if choices != CellChoices():
            st.button("Back to what was detected", on_click=start_again, args=(source,))
        say_where(source, choices, expanded=True)
        return
    _show(table, source, choices)


def _show(table: CellTable, source: str, choices: CellChoices) -> None:
    with st.container(border=True):
        top, action = st.columns([4, 1], vertical_alignment="center")
        top.markdown(
            f"### {safe(table.name)}\n{count(table.n_cells, table.unit)} × {count(table.n_genes, 'gene')}, "
            f"{count(len(table.types), 'cell type')}, {safe(table.values_kind)}"
        )
        fit = top.empty()
        _use(action, table, source, choices)
    if not table.types:
        st.warning(
            "No cell types yet. Choose their column in the line “Cell types”, or join a file of labels.",
            icon=":material/label_off:",
        )
    check_list(table, source)
    say_where(source, choices, expanded=not table.types)
    cell_views(table)
    reading_view(context(), table, source, fit)


def _use(place: DeltaGenerator, table: CellTable, source: str, choices: CellChoices) -> None:
    """The primary action, and what comes after it."""
    ctx = context()
    if (source, choices) == (ctx.data, ctx.cells):
        place.markdown(":gray-badge[in use]")
        with place:
            next_step("pages/train.py", "Train on them")
        return
    without = "Labels are needed: choose their column below." if not table.types else None
    if place.button(
        "Use these cells", type="primary", width="stretch", disabled=not table.types, help=without
    ):
        use(cells=choices, **with_cells(source, ctx))
        st.toast(f"{safe(table.name)} is in use now.")
        st.rerun()


run_page("pages/data.py", page)
