"""The controls of the circuit page: which circuit, and how it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import streamlit as st

from pages.parts import kept
from pages.parts.circuit_request import first_type
from pages.parts.forms import config_form
from pages.parts.tracing import Request
from pages.parts.words import HELP, count
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.figures import View

ALL = "all other types"
CONSENSUS, ONE_CELL = "Consensus", "One cell"
DEFAULT_CELLS = 10  # drawn within five seconds on two cores; the evidence is better with 30
DRAWN = ("max_genes", "max_features", "min_cell_share", "show_errors", "show_bias", "colour_by")


def circuit_controls(tracer: Tracer) -> tuple[Request, View]:
    """One row of controls, and what they ask for."""
    table = tracer.table
    sizes = table.cells_per_type()
    with st.container(border=True):
        left, middle, right, more = st.columns([3, 3, 3.4, 2.6], vertical_alignment="bottom")
        label = kept.keep(
            "label",
            left.selectbox(
                "Cell type",
                table.types,
                key=kept.kept("label", first_type(table), table.types),
                format_func=lambda name: f"{name} ({count(sizes[name], 'cell')})",
                help="Cells of this type are traced.",
            ),
        )
        answer = _answer(tracer, label)
        others = [ALL, *(name for name in tracer.labels if name != answer)]
        against = kept.keep(
            "against",
            middle.selectbox(
                "Against", others, key=kept.kept("against", ALL, others), help=HELP["against"]
            ),
        )
        with right:
            row, n_cells = _scope(np.flatnonzero(table.labels == label))
        with more:
            trace, consensus, view = _more(n_cells)
    return Request(label, answer, None if against == ALL else against, row, trace, consensus), view


def _answer(tracer: Tracer, label: str) -> str:
    """The model's own name for the type; asked for where the two do not agree."""
    if label in tracer.labels:
        return label
    return kept.keep(
        "answer",
        st.selectbox(
            "The model's name for it",
            tracer.labels,
            key=kept.kept("answer", tracer.labels[0], tracer.labels),
            help="The model does not answer with this data set's name of the type. Choose the answer to explain.",
        ),
    )


def _scope(rows: np.ndarray) -> tuple[int | None, int]:
    """The row of one cell, or None and how many cells a consensus has."""
    which, how_many = st.columns([3, 2], vertical_alignment="bottom")
    scopes = [CONSENSUS, ONE_CELL] if len(rows) > 1 else [ONE_CELL]
    scope = kept.keep(
        "scope",
        which.selectbox("Cells", scopes, key=kept.kept("scope", scopes[0], scopes), help=HELP["consensus"]),
    )
    if scope == ONE_CELL:
        number = _number(how_many, "cell", f"Cell of {len(rows):,}", 1, 1, len(rows))
        return int(rows[number - 1]), DEFAULT_CELLS
    most = len(rows)
    words = "Cells of the type, drawn with a seed. More cells, steadier shares and intervals, longer waiting."
    return None, _number(how_many, "cells", f"of {most:,}", min(DEFAULT_CELLS, most), 2, most, words)


def _number(
    place: st.delta_generator.DeltaGenerator,
    name: str, label: str, default: int, low: int, high: int, words: str | None = None,
) -> int:  # fmt: skip
    key = kept.kept(name, default)
    st.session_state[key] = min(max(low, st.session_state[key]), high)
    return int(kept.keep(name, place.number_input(label, low, high, step=1, key=key, help=words)))


def _more(n_cells: int) -> tuple[TraceConfig, ConsensusConfig, View]:
    """Size at hand; what is rarely changed in a popover."""
    size, rest = st.columns([3, 2], vertical_alignment="bottom")
    sizes = ["wide", "column"]
    chosen = kept.keep(
        "size",
        size.selectbox(
            "Size",
            sizes,
            key=kept.kept("size", "wide", sizes),
            help="How much is drawn: as much as a screen or a double column holds, or a single column.",
        ),
    )
    with rest.popover("More", icon=":material/tune:", width="stretch"):
        st.markdown("**Drawing**")
        view = config_form(View(size=chosen), f"view {chosen}", DRAWN, columns=2)
        st.markdown("**Tracing**")
        trace = config_form(TraceConfig(), "trace", columns=2)
        consensus = config_form(ConsensusConfig(), "consensus", ("min_share", "nodes", "seed"), columns=2)
    return trace, dataclasses.replace(consensus, cells=n_cells), view
