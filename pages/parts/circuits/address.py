"""The view in the address: what is in use, which circuit, how much of it is drawn, and the box that is
chosen.

Read when a link is opened, a page is loaded again, or the browser goes back; written when the view changes.
An address is anybody's: it can choose among what is open here, and open nothing new; a value that no control
has is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from pages.parts.common import in_use
from pages.parts.common.jobs import jobs
from pages.parts.common.session import Context, context, last, put, use
from pages.parts.common.words import safe
from scx_core.cells import CellChoices

EXPERT, PRESENTING = "expert", "presenting"  # which of its views the page is in
WRITTEN, BOX, CELLS = "scx_address", "scx_address_box", "scx_chosen_cells"
# What a parameter of the address is, and the widget that it is the value of.
WORDS = {"type": "label", "against": "against", "scope": "scope", "target": "target"}
NUMBERS = {"cell": "cell", "cells": "cells", "genes": "max_genes", "features": "max_features"}
SWITCHES = {"settings": (EXPERT, "all"), "present": (PRESENTING, "yes")}
MOST_CELLS = 200  # of those chosen by hand
_LONGEST = 200


def read() -> None:
    """Take over the view of the address, if it is another than the one that was written last."""
    found = {key: value[:2000] for key, value in st.query_params.to_dict().items()}
    if not found or found == st.session_state.get(WRITTEN):
        return
    st.session_state[WRITTEN] = found
    _sources(found)
    for name, widget in WORDS.items():
        if name in found:
            put(widget, found[name][:_LONGEST])
    for name, widget in NUMBERS.items():
        if found.get(name, "").isdecimal() and len(found[name]) < 10:
            put(widget, int(found[name]))
    for name, (widget, on) in SWITCHES.items():
        put(widget, found.get(name) == on)
    rows = tuple(int(row) for row in re.findall(r"\d{1,9}", found.get("rows", "")))[:MOST_CELLS]
    if rows:
        st.session_state[CELLS] = rows
    st.session_state[BOX] = found.get("box", "")[:_LONGEST]


def _sources(found: Mapping[str, str]) -> None:
    """Cells, model and set of the address, where they are among those that are known here."""
    ctx, changes = context(), {}
    data = {"embedded", "planted", ctx.data, *(str(run.config.get("data", "")) for run in jobs())}
    known = {"data": data, "model": set(in_use.models(ctx))}
    for name in ("data", "model"):
        wanted = found.get(name, getattr(ctx, name))
        if wanted not in known[name]:
            what = "cells" if name == "data" else "model"
            st.warning(
                f"The {what} of this link, **{safe(wanted[-80:])}**, are not in use here. Choose them "
                "(page Data, Change in the side bar) and open the link again."
            )
            return
        if wanted != getattr(ctx, name):
            changes |= in_use.following(name, wanted)
    if "data" in found and found["data"] != ctx.data:
        changes |= {"cells": CellChoices(), **in_use.with_cells(found["data"], ctx)}
    if changes:
        ctx = use(**changes)
    if found.get("set") in in_use.sets(ctx) and found["set"] != ctx.transcoders:
        use(transcoders=found["set"])


def write(ctx: Context, rows: tuple[int, ...] | None, box: str = "") -> None:
    """Put the view that is shown into the address."""
    now = {"data": ctx.data, "model": ctx.model, "set": ctx.transcoders}
    now |= {name: str(last(widget, "")) for name, widget in (WORDS | NUMBERS).items()}
    now |= {name: on for name, (widget, on) in SWITCHES.items() if last(widget, False)}
    now |= {"rows": ".".join(map(str, rows or ())), "box": box}
    now = {name: value for name, value in now.items() if value not in ("", "0")}
    if now != st.session_state.get(WRITTEN):
        st.session_state[WRITTEN] = now
        st.query_params.from_dict(now)


def write_box(box: str) -> None:
    """Only the chosen box changed."""
    now = {name: value for name, value in st.session_state.get(WRITTEN, {}).items() if name != "box"}
    now |= {"box": box} if box else {}
    if now and now != st.session_state.get(WRITTEN):
        st.session_state[WRITTEN] = now
        st.query_params.from_dict(now)
