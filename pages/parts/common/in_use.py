"""What can be in use, under which name, what follows from a choice, and whether a set may be used."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.jobs import jobs
from pages.parts.common.messages import show_error
from pages.parts.common.session import Context, context, use
from pages.parts.common.words import safe, short
from scx_core.cells import CellChoices
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, from_dict, runs_root
from scx_core.runs.files import portable

_CELLS = {"embedded": "700 blood cells, embedded", "planted": "simulated cells, rules known"}
_MODELS = {"embedded": "embedded", "planted": "of the simulated cells"}
_SETS = {
    "embedded": "embedded",
    "embedded-paper": "embedded, paper preset",
    "planted": "of the simulated cells",
}


def cells_name(source: str) -> str:
    """A data source for people."""
    return _CELLS.get(source) or short(source)


def model_name(source: str) -> str:
    """A model source for people."""
    return _MODELS.get(source) or short(source)


def set_name(source: str) -> str:
    """A transcoder source for people."""
    return _SETS.get(source) or short(source)


def new_name(data: str) -> str:
    """A free name for a model of these cells: that of their file, with a number when it is taken."""
    stem = "embedded-cells" if data == "embedded" else Path(data).stem
    stem = portable(re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60]) or "model"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 10_000)))
    root = runs_root()
    taken = {path.name.lower() for path in root.iterdir()} if root.is_dir() else set()
    return next(name for name in names if name.lower() not in taken)


def device_name(wish: str) -> str:
    """The device that a wish comes to; the wish itself until torch is loaded, which takes seconds."""
    if wish != "auto" or "torch" not in sys.modules:
        return wish
    from scx_core.language import pick_device

    return str(pick_device(wish)).upper()


def models(ctx: Context) -> tuple[str, ...]:
    """The shipped models, those of finished builds, and the one in use."""
    built = [str(run.path / "model") for run in _done("build")]
    return tuple(dict.fromkeys((*_MODELS, *built, ctx.model)))


def sets(ctx: Context) -> tuple[str, ...]:
    """The sets that belong to the model in use."""
    own = tuple(name for name in _SETS if name.split("-")[0] == ctx.model)
    built = [run for run in _done("build") if str(run.path / "model") == ctx.model]
    trained = [run for run in _done("train") if run.config.get("model") == ctx.model]
    folders = [str(run.path / "transcoders") for run in (*built, *trained)]
    return tuple(dict.fromkeys((*own, *folders, ctx.transcoders)))


def following(name: str, source: str) -> dict[str, Any]:
    """The changes that come with a choice: a built model brings its transcoders and its cells."""
    if name != "model":
        return {name: source}
    for run in _done("build"):
        if str(run.path / "model") == source:
            return built(run)
    if source == "planted" or (source == "embedded" and context().data == "planted"):
        return {"data": source, "cells": CellChoices(), "model": source, "transcoders": source}
    return {"model": source, "transcoders": "embedded"} if source == "embedded" else {"model": source}


def with_cells(source: str, ctx: Context) -> dict[str, str]:
    """The changes that come with other cells: the simulated ones have a model and a set of their own."""
    if source == "planted" or (source == "embedded" and ctx.model == "planted"):
        return {"data": source, "model": source, "transcoders": source}
    return {"data": source}


def built(run: RunFolder) -> dict[str, Any]:
    """The context of a finished build: its model and set, with the cells that they were made from."""
    return trained(run) | {"model": str(run.path / "model")}


def trained(run: RunFolder) -> dict[str, Any]:
    """The context of a finished training: its set, with the model and the cells that it was trained on."""
    config = run.config
    return {
        "data": config["data"],
        "cells": from_dict(CellChoices, config["cells"]),
        "model": config.get("model"),
        "transcoders": str(run.path / "transcoders"),
    }


def settled(ctx: Context) -> bool:
    """Whether the set in use may be used: trained on this text, or a person said to use it all the same. Says
    which, where they differ. Raises ScxError when model or set cannot be opened."""
    from scx_core.transcoders.check import AS_IS, check_set, opened_as_is, other_text_words

    lm, found = loaders.language(ctx), loaders.transcoders(ctx)
    told = other_text_words(lm, found)
    if not told:
        return True
    if AS_IS in found.meta:
        left, right = st.columns([5, 1.4], vertical_alignment="center")
        left.warning(f"{safe(told)} They are used as they are, and every result says so.")
        right.button("Do not use them so", on_click=use, kwargs={"as_is": False}, width="stretch")
        return True
    try:
        check_set(lm, opened_as_is(lm, found))  # of another shape they are of no use on any text
    except ScxError as error:
        show_error(error)
        return False
    show_error(ScxError(told, "Choose a set that was trained on this text, or train one (page Train)."))
    st.button("Use it all the same (marked)", on_click=use, kwargs={"as_is": True})
    return False


def _done(kind: str) -> list[RunFolder]:
    return [run for run in jobs() if run.kind == kind and run.status().state == "done"]
