"""What a session remembers: cells, model, transcoders and device in use (the last of all sessions on disk,
to be offered to a fresh one), and the values of widgets, which Streamlit forgets when a visit to another
page does not draw them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import streamlit as st

from scx_core.cells import CellChoices
from scx_core.errors import ScxError
from scx_core.runs import LAST_USED, from_dict, option, read_json, runs_root, to_dict, write_json

KEY, _WIDGETS, _CHOSEN = "scx_context", "scx_kept", "scx_context_chosen"
CELLS_READ, _MOST_READ = "cells-read.json", 50  # in the folder of the runs; sources that are remembered


@dataclass(frozen=True)
class Context:
    """Sources as `open_cells`, `load_language` and `load_set` take them."""

    data: str = option("embedded", "Path of the cells, or embedded")
    model: str = option("embedded", "Folder or hub id of the model, or embedded")
    transcoders: str = option("embedded", "Folder of the transcoders, embedded or embedded-paper")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    cells: CellChoices = field(default_factory=CellChoices)
    as_is: bool = option(False, "Use the transcoders also on another text than they were trained on")


def default_context() -> Context:
    """The embedded cells, model and transcoders; SCX_DATA, SCX_MODEL, SCX_TRANSCODERS name others."""
    return Context(*(os.environ.get(f"SCX_{name}", "embedded") for name in ("DATA", "MODEL", "TRANSCODERS")))


def context() -> Context:
    """What is in use in this session; at its start the default, whatever other sessions use."""
    if KEY not in st.session_state:
        st.session_state[KEY] = default_context()
    return st.session_state[KEY]


def use(**changes: object) -> Context:
    """Change what is in use."""
    if {"model", "transcoders"} & set(changes):  # what was said of another set does not hold for this one
        changes = {"as_is": False} | changes
    st.session_state[KEY] = dataclasses.replace(context(), **changes)  # type: ignore[arg-type]
    st.session_state[_CHOSEN] = True
    ctx: Context = st.session_state[KEY]
    write_json(runs_root() / LAST_USED, to_dict(ctx), durable=False)
    others = [(data, how) for data, how in cells_read().items() if data != ctx.data][1 - _MOST_READ :]
    read = {data: to_dict(how) for data, how in [*others, (ctx.data, ctx.cells)]}
    write_json(runs_root() / CELLS_READ, read, durable=False)
    return ctx


def use_default() -> Context:
    """Back to the embedded cells, model and transcoders."""
    st.session_state[KEY] = default_context()
    return use()


def offered() -> Context | None:
    """What was used last here, for a session that has chosen nothing yet and uses something else."""
    before = None if _CHOSEN in st.session_state else last_used()
    return None if before == context() else before


def go_on_with(before: Context) -> None:
    """Take over what was used last."""
    use(**{name: getattr(before, name) for name in Context.__dataclass_fields__})


def last_used() -> Context | None:
    """What any session here used last, unless it cannot be read: then the default is as good."""
    path = runs_root() / LAST_USED
    try:
        return from_dict(Context, read_json(path)) if path.exists() else None
    except (ScxError, TypeError):
        return None


def cells_read() -> dict[str, CellChoices]:
    """How each source of cells was read here last, the latest at the end; nothing where nobody can tell."""
    path = runs_root() / CELLS_READ
    try:
        found = read_json(path) if path.exists() else {}
        return {data: from_dict(CellChoices, how) for data, how in found.items()}
    except (ScxError, TypeError, AttributeError):
        return {}


class Limited(NamedTuple):
    """What a person chose, and what the widget showed where limits or options did not allow it."""

    wanted: Any
    shown: Any


def kept(
    widget: Callable[..., Any],
    label: str,
    name: str,
    default: Any,
    options: Sequence[Any] | None = None,
    *,
    returns: bool = False,
    **more: Any,
) -> Any:
    """Draw `widget` (st.selectbox, the number_input of a column) with the last value that `name` had, or the
    default where that is no option now or outside the limits; returns its value. `returns`: a value that is
    no option now is taken again as soon as it is one."""
    wanted = value = last(name, default)
    if options is not None:
        more["options"] = options
        value = next((one for one in (value, default, *options[:1]) if one in options), default)
    if "min_value" in more:
        value = max(more["min_value"], min(value, more.get("max_value", value)))
    st.session_state[f"kept {name}"] = value
    given = widget(label, key=f"kept {name}", **more)
    # what is only limited here is what a person wants again where there is room for it
    limited = (returns or "min_value" in more) and given == value != wanted
    _values()[name] = Limited(wanted, given) if limited else given
    return given


def kept_search(
    widget: Callable[..., Any], label: str, name: str, options: Sequence[str], **more: Any
) -> str:
    """Draw a selectbox (`widget`) that also takes what is typed, with the last text that `name` had; returns
    the text, "" where there is none."""
    key = f"kept {name}"
    shown = st.session_state[key] if key in st.session_state else _values().get(name)
    known = options if not shown or shown in options else [shown, *options]
    st.session_state[key] = shown or None
    given = widget(label, known, key=key, index=None, accept_new_options=True, **more)
    _values()[name] = (given or "").strip()
    return _values()[name]


def last(name: str, default: Any) -> Any:
    """What the widget gave last, whether it is drawn now or not."""
    value = _values().get(name, default)
    shown = st.session_state.get(f"kept {name}")
    if isinstance(value, Limited):
        return value.wanted if shown in (None, value.shown) else shown
    return value if shown is None else shown


def put(name: str, value: Any) -> None:
    """What the widget shall show when it is drawn next."""
    forget(name)
    _values()[name] = value


def forget(*names: str) -> None:
    """Back to the defaults."""
    for name in names:
        st.session_state.pop(f"kept {name}", None)
        _values().pop(name, None)


def _values() -> dict[str, Any]:
    return st.session_state.setdefault(_WIDGETS, {})
