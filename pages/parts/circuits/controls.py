"""The controls of the circuit page: which circuit, and how it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.circuits.address import CELLS
from pages.parts.circuits.tracing import Request, likely_answer
from pages.parts.common.forms import config_form
from pages.parts.common.session import kept, last
from pages.parts.common.words import HELP, count, safe
from scx_core.cells import CellTable, known_markers
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.figures import View
from scx_core.runs import options_of

ALL = "all other types"
CONSENSUS, ONE_CELL, DIFFERENCE, CHOSEN = "Consensus", "One cell", "Difference", "Chosen cells"
WIDTHS = (250, 215, 145, 110, 100)  # pixels: one line beside the side bar, two in a narrow window
# A beginner sees the first and the number of cells.
PLACES = ("which type", "for-experts-against", "for-experts-scope", "how many", "for-experts-more")
DEFAULT_CELLS = 30  # drawn within two seconds on two cores
DRAWN = ("min_cell_share", "show_errors", "show_bias", "colour_by")
NODES = {"nodes": "Nodes a cell"}  # of a consensus; beside those of one cell's trace
MOST = {"max_genes": "Most genes drawn", "max_features": "Most features drawn"}
MOST_HELP = "0 is as many as the size shows legibly."
# The kinds of scx_core.circuits.TraceConfig.target.
TARGETS = {
    "auto": "The answer against its competitors",
    "answer": "The whole answer against theirs",
    "contrast": "One token of it against theirs",
    "logit": "The answer alone",
    "logprob": "How probable the answer is",
    "token": "A token of your choice",
}
_TARGET_HELP = """
What the effects add up to.

- **Against its competitors**: one token where one parts the answer from all of them, else whole answers.
- **Whole answer against theirs**: the logarithm of how much more probable the answer is than the competitors
  together, read at every token where they part, in nats.
- **One token against theirs**: the answer's logit minus their mean logit, at the token where most of them
  part. Competitors that part elsewhere are left out, and named.
- **Alone**: the logit of that token minus the mean logit of all tokens.
- **How probable**: the logarithm of that token's probability among all tokens, in nats.
- **A token of your choice**: its logit at the same place, minus the mean of all tokens.
"""
_TOKEN_HELP = "A word or a piece of one that is one token of the model, or its number in the vocabulary."


def circuit_controls(tracer: Tracer) -> tuple[Request, View]:
    """One row of controls, and what they ask for."""
    table = tracer.table
    sizes = table.cells_per_type()
    with st.container():
        line = st.container(horizontal=True, vertical_alignment="bottom", key="line")
        places = zip(PLACES, WIDTHS, strict=True)
        left, middle, *right, more = (line.container(width=width, key=key) for key, width in places)
        label = kept(
            left.selectbox, "Cell type", "label", first_type(table), table.types,
            format_func=lambda name: f"{name} ({count(sizes[name], 'cell')})",
            help="Cells of this type are traced.",
        )  # fmt: skip
        answer = _answer(tracer, label)
        others = [ALL, *(name for name in tracer.labels if name != answer)]
        against = kept(middle.selectbox, "Against", "against", ALL, others, help=HELP["against"])
        row, n_cells, less = _scope(*right, np.flatnonzero(table.labels == label), against in table.types)
        rows = chosen_rows(table) if last("scope", "") == CHOSEN else None
        with more.popover("More", width="stretch"):
            view = _drawing()
            trace, consensus = _tracing(n_cells)
    competitor = None if against == ALL else against
    asked = Request(label, answer, competitor, row, trace, consensus, competitor if less else None)
    return asked._replace(rows=rows), view


def chosen_rows(table: CellTable) -> tuple[int, ...] | None:
    """The cells that were chosen by hand, of those that the table has."""
    rows = tuple(row for row in st.session_state.get(CELLS, ()) if 0 <= row < table.n_cells)
    return rows or None


def first_type(table: CellTable) -> str:
    """The type shown first: B cells where there are any, else the most frequent."""
    for label in table.types:
        known = known_markers(label)
        if known is not None and known.cell_type == "B cell":
            return label
    return str(table.cells_per_type().index[0])


def _answer(tracer: Tracer, label: str) -> str:
    """The model's own name for the type; asked for where the two do not agree."""
    mapped = (tracer.table.answer_of or {}).get(label, "")
    if mapped == label in tracer.labels:
        return label
    guess = likely_answer(tracer, label)
    if not mapped:
        st.caption(
            f":orange[:material/info:] {safe(label)} has no answer in the mapping of labels (page Data). "
            "What is explained is an answer that you choose, at first the one that most of these cells get."
        )
    why = "the mapping of labels says so (page Data)" if mapped else "most of these cells are called so"
    return kept(
        st.selectbox, "The model's name for it", f"answer {label} {guess}", guess, tracer.labels,
        help=f"The model does not know this name. At first {safe(guess)}: {why}.",
    )  # fmt: skip


def _scope(
    which: DeltaGenerator, how_many: DeltaGenerator, rows: np.ndarray, competitor: bool
) -> tuple[int | None, int, bool]:
    """The row of one cell, or None; how many cells a consensus has; and whether it is a difference."""
    scopes = [CONSENSUS, ONE_CELL] if len(rows) > 1 else [ONE_CELL]
    if competitor and len(rows) > 1:
        scopes.append(DIFFERENCE)
    by_hand = st.session_state.get(CELLS, ())
    if by_hand:
        scopes.append(CHOSEN)
    # of a type with a single cell there is one cell only; the next type has its consensus again
    scope = kept(which.selectbox, "Cells", "scope", CONSENSUS, scopes, returns=True, help=HELP["scope"])
    most, ask = len(rows), how_many.number_input
    if scope == ONE_CELL:
        number = kept(
            ask, "Which cell", "cell", 1, min_value=1, max_value=most, step=1,
            help=f"1 to {most:,}: the cells of the type, in the order of the file.",
        )  # fmt: skip
        return int(rows[number - 1]), DEFAULT_CELLS, False
    if scope == CHOSEN:
        how_many.number_input(
            "Chosen by hand", value=len(by_hand), disabled=True, key=f"chosen {len(by_hand)}"
        )
        return None, max(2, len(by_hand)), False
    words = f"Of {count(most, 'cell')} of the type, drawn with a seed. More cells, steadier shares, longer."
    number = kept(
        ask,
        "How many",
        "cells",
        DEFAULT_CELLS,
        min_value=2,
        max_value=most,
        step=1,
        help=words,
    )
    return None, number, scope == DIFFERENCE


def drawing_controls() -> View:
    """How a circuit is drawn that is there already."""
    with st.popover("Drawing", icon=":material/tune:"):
        return _drawing()


def _drawing() -> View:
    st.markdown("**Drawing**")
    words = "Of exported pictures: a double column or a single one. The picture on the page has its own size."
    size = kept(st.selectbox, "Size in print", "size", "wide", ["wide", "column"], help=words)
    places = st.columns(2)
    most = {
        name: kept(place.number_input, label, name, 0, min_value=0, max_value=2000, step=1, help=MOST_HELP)
        for place, (name, label) in zip(places, MOST.items(), strict=True)
    }
    return dataclasses.replace(config_form(View(size=size), f"view {size}", DRAWN, columns=2), **most)


def _tracing(n_cells: int) -> tuple[TraceConfig, ConsensusConfig]:
    """What is rarely changed about a trace."""
    st.markdown("**Tracing**")
    kind, token = _target()
    rest = [opt.name for opt in options_of(TraceConfig) if opt.name not in ("target", "token")]
    trace = config_form(TraceConfig(), "trace", rest, columns=2)
    st.markdown("**Consensus**")
    consensus = config_form(
        ConsensusConfig(), "consensus", ("min_share", "nodes", "seed"), columns=2, named=NODES
    )
    return (
        dataclasses.replace(trace, target=kind, token=token),
        dataclasses.replace(consensus, cells=n_cells),
    )


def _target() -> tuple[str, str]:
    """The kind of target, and the token where one is asked for (else empty)."""
    kinds = list(TARGETS)
    kind = kept(
        st.selectbox, "What is explained", "target", kinds[0], kinds,
        format_func=TARGETS.__getitem__, help=_TARGET_HELP,
    )  # fmt: skip
    if kind != "token":
        return kind, ""
    token = kept(st.text_input, "Token", "token", "", placeholder="CD79A or 417", help=_TOKEN_HELP)
    if not token.strip():  # a token may begin with a space
        st.caption("Type a token. Until then the answer against its competitors is explained.")
        return kinds[0], ""
    return kind, token
