"""The view of the circuit page in its address: which circuit, how much of it is drawn, and the box that is
chosen; what is in use stands beside it on every page (`pages.parts.common.address`).

Read when a link is opened, a page is loaded again, or the browser goes back; written when the view changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from pages.parts.common import address
from pages.parts.common.session import Context, last, put

EXPERT, PRESENTING = "expert", "presenting"  # which of its views the page is in
BOX, CELLS = "scx_address_box", "scx_chosen_cells"
# What a parameter of the address is, and the widget that it is the value of.
WORDS = {"type": "label", "against": "against", "scope": "scope", "target": "target"}
NUMBERS = {"cell": "cell", "cells": "cells", "genes": "max_genes", "features": "max_features"}
SWITCHES = {"settings": (EXPERT, "all"), "present": (PRESENTING, "yes")}
MOST_CELLS = 200  # of those chosen by hand


def take(found: Mapping[str, str]) -> None:
    """Put the view of an address where the controls find it."""
    for name, widget in WORDS.items():
        if name in found:
            put(widget, found[name][: address.LONGEST])
    for name, widget in NUMBERS.items():
        if found.get(name, "").isdecimal() and len(found[name]) < 10:
            put(widget, int(found[name]))
    for name, (widget, on) in SWITCHES.items():
        put(widget, found.get(name) == on)
    rows = tuple(int(row) for row in re.findall(r"\d{1,9}", found.get("rows", "")))[:MOST_CELLS]
    if rows:
        st.session_state[CELLS] = rows
    st.session_state[BOX] = found.get("box", "")[: address.LONGEST]


def write(ctx: Context, rows: tuple[int, ...] | None, box: str = "") -> None:
    """Put the view that is shown into the address."""
    now = {name: str(last(widget, "")) for name, widget in (WORDS | NUMBERS).items()}
    now |= {name: on for name, (widget, on) in SWITCHES.items() if last(widget, False)}
    now |= {"rows": ".".join(map(str, rows or ())), "box": box}
    address.write(ctx, {name: value for name, value in now.items() if value not in ("", "0")})


def write_box(box: str) -> None:
    """Only the chosen box changed."""
    now = {name: value for name, value in st.session_state.get(address.WRITTEN, {}).items() if name != "box"}
    now |= {"box": box} if box else {}
    if now and now != st.session_state.get(address.WRITTEN):
        st.session_state[address.WRITTEN] = now
        st.query_params.from_dict(now)
