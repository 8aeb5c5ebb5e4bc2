"""What this session works on: cells, model, transcoders, device. Kept on disk, so that a refresh keeps it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from scx_core.cells import CellChoices
from scx_core.errors import ScxError
from scx_core.runs import from_dict, option, read_json, runs_root, to_dict, write_json

KEY = "scx_context"


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
    """What is in use now; at a session's start what was in use last."""
    if KEY not in st.session_state:
        st.session_state[KEY] = _last() or default_context()
    return st.session_state[KEY]


def use(**changes: object) -> Context:
    """Change what is in use."""
    if {"model", "transcoders"} & set(changes):  # what was said of another set does not hold for this one
        changes = {"as_is": False} | changes
    st.session_state[KEY] = dataclasses.replace(context(), **changes)
    write_json(_file(), to_dict(st.session_state[KEY]), durable=False)
    return st.session_state[KEY]


def use_default() -> Context:
    """Back to the embedded cells, model and transcoders."""
    st.session_state[KEY] = default_context()
    return use()


def _file() -> Path:
    return runs_root() / "last-used.json"


def _last() -> Context | None:
    """What was used last, unless it cannot be read: then the default is as good."""
    try:
        return from_dict(Context, read_json(_file())) if _file().exists() else None
    except (ScxError, TypeError):
        return None
