"""How a result shows itself: one line in a terminal, tables and figures in a notebook.

A result belongs to the room that measures it, its picture to the room that draws, and a room imports only
rooms before it. So a result says no more than that it can be shown (`@shown`); the face of the package, which
stands above all rooms, says who draws (`draw_with`), and that room is imported when a notebook first asks.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any, TypeVar

T = TypeVar("T")
_DRAWERS: list[tuple[str, str]] = []  # module and function, the last one draws


def draw_with(module: str, function: str) -> None:
    """Who makes HTML of results: a function of a result that gives a fragment, or None for plain text."""
    _DRAWERS.append((module, function))


def shown(kind: type[T]) -> type[T]:
    """A class whose results a notebook shows with what `draw_with` named last."""
    kind._repr_html_ = _repr_html_  # type: ignore[attr-defined]
    return kind


def _repr_html_(result: Any) -> str | None:
    if not _DRAWERS:
        return None
    module, function = _DRAWERS[-1]
    return getattr(importlib.import_module(module), function)(result)


_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


def as_markdown(text: object) -> str:
    """A name as Markdown shows it literally, on one line: no link, image, heading, row of a table or HTML."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return _MARKS.sub(r"\\\1", line)


def counted(number: int, what: str) -> str:
    """ "1 cell", "1,200 cells": for the line that a terminal shows."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this: what is displayed is seen."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
