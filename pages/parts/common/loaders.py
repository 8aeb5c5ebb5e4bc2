"""Cells, model, transcoders and tracer, each opened once for all sessions.

The rooms of model and cells are imported where they are first needed: with them come torch, pandas and
anndata, and the first page must not wait.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pages.parts.common.session import Context
from scx_core.cells import CellChoices
from scx_core.errors import ScxError
from scx_core.runs import sha256_of

if TYPE_CHECKING:
    from scx_core.cells import CellTable
    from scx_core.circuits import Tracer
    from scx_core.language import Language
    from scx_core.transcoders import TranscoderSet


def cells(ctx: Context) -> CellTable:
    """The cells in use. Raises ScxError when they cannot be opened or have no labels."""
    return opened(ctx.data, ctx.cells)


def opened(source: str, choices: CellChoices, require_labels: bool = True) -> CellTable:
    """Any cells. Raises ScxError."""
    return _cells(source, choices, require_labels, (_stamp(source), *_contents(choices)))


def language(ctx: Context) -> Language:
    """The model in use. Raises ScxError, also for a checkpoint of the hub that would have to be fetched
    first: gigabytes come when a person asks for them, not when a page is opened."""
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

    stamps = (*(map(_stamp, (ctx.data, ctx.model, ctx.transcoders))), *_contents(ctx.cells))
    found = _tracer(ctx.data, ctx.cells, ctx.model, ctx.transcoders, ctx.device, ctx.as_is, stamps, ctx)
    found.names = book({"data": found.table, "model": found.lm, "transcoders": found.transcoders})
    return found


@st.cache_resource(show_spinner="Opening the cells …", max_entries=3)
def _cells(source: str, choices: CellChoices, require_labels: bool, stamp: object) -> CellTable:
    from scx_core.cells import open_cells

    return open_cells(source, choices, require_labels)


@st.cache_resource(show_spinner="Loading the model …", max_entries=2)
def _language(source: str, device: str, stamp: object) -> Language:
    from transformers.utils import logging

    from scx_core.language import load_language
    from scx_core.language.hub import checkpoint_folder, is_hub_id

    if is_hub_id(source) and checkpoint_folder(source) is None:
        raise ScxError(f"{source} is not on this computer yet.", "The page Data has a button.")
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
    with lm.lock:
        return make_tracer(lm, coders, table)


def cells_key(table: CellTable) -> tuple[Hashable, ...]:
    """What is read of a table, by content: the cells, how they are read, and what their types are called."""
    return table.fingerprint, table.choices, str(table.given_answers), str(table.answer_of)


def model_key(lm: Language) -> tuple[Hashable, ...]:
    """A model by content, the text that it is given, and where it is."""
    return lm.fingerprint, lm.sentence_config, str(lm.device)


def tracer_key(tracer: Tracer, named: bool = True) -> tuple[Hashable, ...]:
    """What a result of a tracer depends on, by content; `named` where the result holds names of features."""
    source = tracer.names.source if named and tracer.names is not None else ""
    coders = (tracer.transcoders.fingerprint, str(tracer.transcoders.meta.get("as_is")))
    return (*cells_key(tracer.table), *model_key(tracer.lm), *coders, source)


def _stamp(source: str) -> tuple[object, ...] | None:
    """Changes when a file does, or one that lies in a folder, so that a new version is opened anew."""
    try:
        path = Path(source).expanduser()
        found = [path, *(path.iterdir() if path.is_dir() else ())]
        return tuple(sorted((one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in found))
    except (OSError, ValueError, RuntimeError):
        return None


def _contents(choices: CellChoices) -> tuple[str | None, ...]:
    """Hashes of the files that a person gave beside the cells: they may change under the same path."""
    return tuple(_hash(path) for path in (choices.answers, choices.labels_file))


def _hash(path: str | None) -> str | None:
    try:
        return sha256_of(Path(path).expanduser()) if path else None
    except (OSError, RuntimeError):  # said where the file is opened
        return None
