"""What is in use, in the address of every page: a page that is loaded again, a copied link, the way back and
a second tab find the same cells, model and transcoders; each page adds its own view (`View`).

An address is anybody's: it chooses among what was used here before, and what is new is asked for first, with
nothing drawn until the answer; a value that no control has is not taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.common import in_use, loaders
from pages.parts.common.jobs import jobs
from pages.parts.common.session import Context, cells_read, context, last_used, use
from pages.parts.common.words import safe
from scx_core.cells import CellChoices
from scx_core.runs import RunFolder, from_dict

WRITTEN, PAGE = "scx_address", "scx_page"
_WRITTEN_ON = "scx_address_page"
_DECLINED = "scx_address_declined"
# The parameters of the address that say what is in use, and the part of the context that each is.
SOURCES = {"data": "data", "model": "model", "set": "transcoders"}
_WHAT = {"data": "the cells", "model": "the model", "set": "the transcoders"}
LONGEST = 200
_MOST = 2000  # characters of a value that is read


class View(NamedTuple):
    """The part of the address that is a page's own: `take` puts what it says where the page's controls find
    it, `give` says what they show now."""

    take: Callable[[Mapping[str, str]], None] = lambda found: None
    give: Callable[[], dict[str, str]] = dict


def read(take: Callable[[Mapping[str, str]], None]) -> bool:
    """Take over the view of the address, if it is another than the one that was written last.

    False while a link of other cells, of another model or set waits for an answer: then nothing is drawn, and
    the address stays as it is.
    """
    found = {key: value[:_MOST] for key, value in st.query_params.to_dict().items()}
    if not found or found == st.session_state.get(WRITTEN):
        return True
    if found != st.session_state.get(_DECLINED):
        if strange := _strange(found):
            _ask(found, strange)
            return False
        _open(found)
    st.session_state[WRITTEN] = found
    take(found)
    return True


def write(ctx: Context, view: Mapping[str, str]) -> None:
    """Put what is in use and the view that is shown into the address.

    On the way back the browser comes to the page's address without anything behind it, as a click in the menu
    left it: what stands there already is not written again, or nobody could go further back.
    """
    now = {"data": ctx.data, "model": ctx.model, "set": ctx.transcoders} | dict(view)
    now = {name: value for name, value in now.items() if value}
    page, state = st.session_state.get(PAGE), st.session_state
    went_back = (now, page) == (state.get(WRITTEN), state.get(_WRITTEN_ON))
    if st.query_params.to_dict() != now and not went_back:
        st.query_params.from_dict(now)
    state[WRITTEN], state[_WRITTEN_ON] = now, page


def _strange(found: Mapping[str, str]) -> tuple[str, ...]:
    """Those of data, model and set that the address names and nobody has used here."""
    ctx, before = context(), last_used() or context()
    model = dataclasses.replace(ctx, model=found.get("model", ctx.model))
    known = {
        "data": {
            *("embedded", "planted", ctx.data, before.data),
            *cells_read(),
            *(_data_of(run) for run in jobs()),
        },
        "model": {*in_use.models(ctx), before.model},
        "set": {*in_use.sets(model), before.transcoders},
    }
    return tuple(name for name in SOURCES if name in found and found[name] not in known[name])


def _ask(found: Mapping[str, str], strange: tuple[str, ...]) -> None:
    """What the link is of, and a button for each answer."""
    st.markdown("# A link")
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
    if data in (by_session := cells_read()):
        return by_session[data]
    read = (run.config.get("cells") for run in jobs() if _data_of(run) == data)
    found = next((cells for cells in read if cells), None)
    return CellChoices() if found is None else from_dict(CellChoices, found)


def _data_of(run: RunFolder) -> str:
    return str(run.config.get("data", ""))
