"""The view in the address: what is in use, which circuit, how much of it is drawn, and the box that is
chosen.

Read when a link is opened, a page is loaded again, or the browser goes back; written when the view changes.
An address is anybody's: it chooses among what was used here before, and what is new is asked for first, with
nothing drawn until the answer; a value that no control has is not taken.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.parts.common import in_use, loaders
from pages.parts.common.jobs import jobs
from pages.parts.common.session import Context, context, last, last_used, put, use
from pages.parts.common.words import safe
from scx_core.cells import CellChoices
from scx_core.runs import RunFolder, from_dict

EXPERT, PRESENTING = "expert", "presenting"  # which of its views the page is in
WRITTEN, BOX, CELLS = "scx_address", "scx_address_box", "scx_chosen_cells"
_DECLINED = "scx_address_declined"
# The parameters of the address that say what is in use, and the part of the context that each is.
SOURCES = {"data": "data", "model": "model", "set": "transcoders"}
_WHAT = {"data": "the cells", "model": "the model", "set": "the transcoders"}
# What a parameter of the address is, and the widget that it is the value of.
WORDS = {"type": "label", "against": "against", "scope": "scope", "target": "target"}
NUMBERS = {"cell": "cell", "cells": "cells", "genes": "max_genes", "features": "max_features"}
SWITCHES = {"settings": (EXPERT, "all"), "present": (PRESENTING, "yes")}
MOST_CELLS = 200  # of those chosen by hand
_LONGEST = 200


def read() -> bool:
    """Take over the view of the address, if it is another than the one that was written last.

    False while a link of other cells, of another model or set waits for an answer: then nothing is drawn, and
    the address stays as it is.
    """
    found = {key: value[:2000] for key, value in st.query_params.to_dict().items()}
    if not found or found == st.session_state.get(WRITTEN):
        return True
    if found != st.session_state.get(_DECLINED):
        if strange := _strange(found):
            _ask(found, strange)
            return False
        _open(found)
    st.session_state[WRITTEN] = found
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
    return True


def _strange(found: Mapping[str, str]) -> tuple[str, ...]:
    """Those of data, model and set that the address names and nobody has used here."""
    ctx, before = context(), last_used() or context()
    model = dataclasses.replace(ctx, model=found.get("model", ctx.model))
    known = {
        "data": {"embedded", "planted", ctx.data, before.data, *(_data_of(run) for run in jobs())},
        "model": {*in_use.models(ctx), before.model},
        "set": {*in_use.sets(model), before.transcoders},
    }
    return tuple(name for name in SOURCES if name in found and found[name] not in known[name])


def _ask(found: Mapping[str, str], strange: tuple[str, ...]) -> None:
    """What the link is of, and a button for each answer."""
    st.markdown("# Circuits")
    named = "; ".join(f"{_WHAT[name]} **{safe(found[name][-80:])}**" for name in strange)
    these = "these cells" if strange == ("data",) else "what it names"
    st.warning(
        f"This link is of something that is not in use here: {named}. Nothing is drawn, and the address "
        f"stays, until you choose. Open {these} only if you know the link.",
        icon=":material/link:",
    )
    with st.container(horizontal=True):
        wanted = st.button(f"Open {these}", type="primary")
        st.button("Draw the cells in use instead", on_click=_decline, args=(dict(found),))
    if wanted:
        ctx = dataclasses.replace(context(), **_changes(found))
        loaders.opened(ctx.data, ctx.cells)  # raises with a remedy, before anything changes
        loaders.transcoders(ctx)
        _open(found)
        st.rerun()


def _decline(found: dict[str, str]) -> None:
    """Take the view of the link for what is in use."""
    st.session_state[_DECLINED] = found


def _open(found: Mapping[str, str]) -> None:
    """Take what the address names into use, where something else is."""
    ctx = context()
    if any(found.get(name, getattr(ctx, part)) != getattr(ctx, part) for name, part in SOURCES.items()):
        use(**_changes(found))


def _changes(found: Mapping[str, str]) -> dict[str, Any]:
    """What has to change for it; cells are read as they were read here last."""
    ctx, before = context(), last_used()
    if before is not None and all(found.get(name) == getattr(before, part) for name, part in SOURCES.items()):
        return {name: getattr(before, name) for name in Context.__dataclass_fields__}
    changes: dict[str, Any] = {}
    if found.get("model", ctx.model) != ctx.model:
        changes |= in_use.following("model", found["model"])
    if found.get("data", ctx.data) != ctx.data:
        changes |= {"cells": _choices(found["data"]), **in_use.with_cells(found["data"], ctx)}
    if "model" in found:
        changes["model"] = found["model"]
    if "set" in found:
        changes["transcoders"] = found["set"]
    return changes


def _choices(data: str) -> CellChoices:
    """How cells were read here last: by a session, else by a job."""
    before = last_used()
    if before is not None and before.data == data:
        return before.cells
    read = (run.config.get("cells") for run in jobs() if _data_of(run) == data)
    found = next((cells for cells in read if cells), None)
    return CellChoices() if found is None else from_dict(CellChoices, found)


def _data_of(run: RunFolder) -> str:
    return str(run.config.get("data", ""))


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
