"""The controls of the circuit page: which circuit, and how it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.circuits.request import first_type
from pages.parts.circuits.target_control import target_control
from pages.parts.circuits.tracing import Request, likely_answer
from pages.parts.common import kept_widgets as kept
from pages.parts.common.forms import config_form
from pages.parts.common.words import HELP, count, safe
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.figures import View
from scx_core.runs import options_of

ALL = "all other types"
CONSENSUS, ONE_CELL, DIFFERENCE = "Consensus", "One cell", "Difference"
WIDTHS = (235, 190, 145, 100, 110, 100)  # pixels: one line beside the side bar, two in a narrow window
DEFAULT_CELLS = 30  # drawn within two seconds on two cores
DRAWN = ("max_genes", "max_features", "min_cell_share", "show_errors", "show_bias", "colour_by")


def circuit_controls(tracer: Tracer) -> tuple[Request, View]:
    """One row of controls, and what they ask for."""
    table = tracer.table
    sizes = table.cells_per_type()
    with st.container(border=True):
        line = st.container(horizontal=True, vertical_alignment="bottom")
        left, middle, *right, size, more = (line.container(width=width) for width in WIDTHS)
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
            middle.selectbox("Against", others, key=kept.kept("against", ALL, others), help=HELP["against"]),
        )
        rivals = table.types if against in table.types else []
        row, n_cells, less = _scope(*right, np.flatnonzero(table.labels == label), against in rivals)
        chosen = _size(size)
        with more.popover("More", width="stretch"):
            view = _drawing(chosen)
            trace, consensus = _tracing(n_cells)
    rival = None if against == ALL else against
    return Request(label, answer, rival, row, trace, consensus, rival if less else None), view


def _answer(tracer: Tracer, label: str) -> str:
    """The model's own name for the type; asked for where the two do not agree."""
    mapped = (tracer.table.answer_of or {}).get(label, "")
    if mapped == label in tracer.labels:
        return label
    guess = likely_answer(tracer, label)
    name = f"answer {label} {guess}"
    if not mapped:
        st.caption(
            f":orange[:material/info:] {safe(label)} has no answer in the mapping of labels (page Data). "
            "What is explained is an answer that you choose, at first the one that most of these cells get."
        )
    why = "the mapping of labels says so (page Data)" if mapped else "most of these cells are called so"
    return kept.keep(
        name,
        st.selectbox(
            "The model's name for it",
            tracer.labels,
            key=kept.kept(name, guess, tracer.labels),
            help=f"The model does not know this name. At first {safe(guess)}: {why}.",
        ),
    )


def _scope(
    which: DeltaGenerator, how_many: DeltaGenerator, rows: np.ndarray, rival: bool
) -> tuple[int | None, int, bool]:
    """The row of one cell, or None; how many cells a consensus has; whether the rival's is subtracted."""
    scopes = [CONSENSUS, ONE_CELL] if len(rows) > 1 else [ONE_CELL]
    if rival and len(rows) > 1:
        scopes.append(DIFFERENCE)
    scope = kept.keep(
        "scope",
        which.selectbox("Cells", scopes, key=kept.kept("scope", scopes[0], scopes), help=HELP["scope"]),
    )
    if scope == ONE_CELL:
        number = _number(how_many, "cell", f"Cell of {len(rows):,}", 1, 1, len(rows))
        return int(rows[number - 1]), DEFAULT_CELLS, False
    most = len(rows)
    words = "Cells of the type, drawn with a seed. More cells, steadier shares and intervals, longer waiting."
    number = _number(how_many, "cells", f"of {most:,}", min(DEFAULT_CELLS, most), 2, most, words)
    return None, number, scope == DIFFERENCE


def _number(
    place: DeltaGenerator,
    name: str, label: str, default: int, low: int, high: int, words: str | None = None,
) -> int:  # fmt: skip
    key = kept.kept(name, default)
    st.session_state[key] = min(max(low, st.session_state[key]), high)
    return int(kept.keep(name, place.number_input(label, low, high, step=1, key=key, help=words)))


def drawing_controls() -> View:
    """How a circuit is drawn that is there already."""
    with st.container(border=True):
        size, more, _ = st.columns([1.6, 1.4, 9], vertical_alignment="bottom")
        chosen = _size(size)
        with more.popover("More", width="stretch"):
            return _drawing(chosen)


def _size(place: DeltaGenerator) -> str:
    sizes = ["wide", "column"]
    return kept.keep(
        "size",
        place.selectbox(
            "Size",
            sizes,
            key=kept.kept("size", "wide", sizes),
            help="How much is drawn: as much as a screen or a double column holds, or a single column.",
        ),
    )


def _drawing(size: str) -> View:
    st.markdown("**Drawing**")
    return config_form(View(size=size), f"view {size}", DRAWN, columns=2)


def _tracing(n_cells: int) -> tuple[TraceConfig, ConsensusConfig]:
    """What is rarely changed about a trace."""
    st.markdown("**Tracing**")
    kind, token = target_control()
    rest = [opt.name for opt in options_of(TraceConfig) if opt.name not in ("target", "token")]
    trace = config_form(TraceConfig(), "trace", rest, columns=2)
    st.markdown("**Consensus**")
    consensus = config_form(ConsensusConfig(), "consensus", ("min_share", "nodes", "seed"), columns=2)
    return (
        dataclasses.replace(trace, target=kind, token=token),
        dataclasses.replace(consensus, cells=n_cells),
    )
