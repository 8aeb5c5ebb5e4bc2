"""Cells, model, transcoders and tracer, each opened once for all sessions.

The model's room is imported where it is first needed: it brings torch, and the first page must not wait.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pages.parts.common.session import Context
from scx_core.cells import CellChoices, CellTable, open_cells

if TYPE_CHECKING:
    from scx_core.circuits import Tracer
    from scx_core.language import Language
    from scx_core.transcoders import TranscoderSet

# Taps hook into the model: two sessions that run it at once would read each other's activations.
MODEL_LOCK = threading.RLock()


def cells(ctx: Context) -> CellTable:
    """The cells in use. Raises ScxError when they cannot be opened or have no labels."""
    return opened(ctx.data, ctx.cells)


def opened(source: str, choices: CellChoices, require_labels: bool = True) -> CellTable:
    """Any cells. Raises ScxError."""
    return _cells(source, choices, require_labels, _stamp(source))


def language(ctx: Context) -> Language:
    """The model in use. Raises ScxError."""
    return _language(ctx.model, ctx.device, _stamp(ctx.model))


def transcoders(ctx: Context) -> TranscoderSet:
    """The transcoders in use, where the model is and in its precision. Raises ScxError."""
    stamps = (_stamp(ctx.transcoders), _stamp(ctx.model))
    found = _transcoders(ctx.transcoders, ctx.model, ctx.device, *stamps)
    if not ctx.as_is:
        return found
    from scx_core.transcoders.check import opened_as_is

    return opened_as_is(language(ctx), found)


def tracer(ctx: Context) -> Tracer:
    """All three put together, with the names of the atlas that is there now. Raises ScxError when they do not
    fit."""
    from pages.parts.common.naming import book

    stamps = (_stamp(ctx.data), _stamp(ctx.model), _stamp(ctx.transcoders))
    found = _tracer(ctx.data, ctx.cells, ctx.model, ctx.transcoders, ctx.device, ctx.as_is, stamps, ctx)
    found.names = book({"data": found.table, "model": found.lm, "transcoders": found.transcoders})
    return found


@st.cache_resource(show_spinner="Opening the cells …", max_entries=3)
def _cells(source: str, choices: CellChoices, require_labels: bool, stamp: object) -> CellTable:
    return open_cells(source, choices, require_labels)


@st.cache_resource(show_spinner="Loading the model …", max_entries=2)
def _language(source: str, device: str, stamp: object) -> Language:
    from transformers.utils import logging

    from scx_core.language import load_language

    logging.disable_progress_bar()
    return load_language(source, device)


@st.cache_resource(show_spinner="Loading the transcoders …", max_entries=2)
def _transcoders(source: str, model: str, device: str, stamp: object, model_stamp: object) -> TranscoderSet:
    from scx_core.transcoders import load_set

    lm = _language(model, device, model_stamp)
    return load_set(source, lm.device, lm.dtype)


@st.cache_resource(show_spinner="Putting cells, model and transcoders together …", max_entries=2)
def _tracer(
    data: str,
    choices: CellChoices,
    model: str,
    folder: str,
    device: str,
    as_is: bool,
    stamps: object,
    _ctx: Context,
) -> Tracer:
    from scx_core.circuits import make_tracer

    lm, coders, table = language(_ctx), transcoders(_ctx), cells(_ctx)
    with MODEL_LOCK:
        return make_tracer(lm, coders, table)


def _stamp(source: str) -> tuple[int, int] | None:
    """Changes when a file or folder does, so that a new version is opened anew."""
    try:
        found = Path(source).expanduser().stat()
    except (OSError, ValueError, RuntimeError):
        return None
    return found.st_mtime_ns, found.st_size
