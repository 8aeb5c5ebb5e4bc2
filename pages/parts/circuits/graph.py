"""The picture that can be touched: Streamlit's two-way component around the drawing, on files of this
computer.

Python says what is drawn and which boxes are chosen; the browser reports each gesture once, with a mark of
its own. Names go to it as JSON and are written as text only. The files are served by Streamlit from three
folders: `picture` beside this file, the drawing of exported pages, and pyvis' vis-network.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyvis
import streamlit as st
import streamlit.components.v1 as components

from scx_core.figures.drawing.drawing import Drawing
from scx_core.figures.formats import html

LEAST_HEIGHT = 430
MOST_CHOSEN = 200
_HERE = Path(__file__).parent
_PICTURE = components.declare_component("picture", path=str(_HERE / "picture"))
# Served beside it; index.html names both.
components.declare_component("vis", path=str(Path(pyvis.__file__).parent / Path(html.LIBRARY).parent))
components.declare_component("drawing", path=str(Path(html.__file__).parent / "interactive"))
KINDS = ("choose", "hide", "pin", "unpin", "join", "rename", "undo", "reset")


class Gesture(NamedTuple):
    """What a person did: `kind` of KINDS, to the boxes `ids`; `places` where they were dragged, `name`
    given."""

    kind: str
    ids: tuple[str, ...]
    places: dict[str, tuple[float, float]]
    name: str
    at: str


def picture(
    drawing: Drawing,
    key: str,
    *,
    chosen: tuple[str, ...] = (),
    lit: frozenset[str] = frozenset(),
    pinned: tuple[str, ...] = (),
    edits: bool = False,
    said: str = "",
    same: bool = False,
    fixed: bool = False,
    presented: bool = False,
) -> None:
    """Draw it; its gestures are in `reported`. `edits`: there is something to take back. `said`: a line
    below it. `same`: of the circuit that was drawn before, so that zoom and place are kept. `fixed`: its
    boxes are looked at, not edited. `presented`: without its tools; the arrow keys and Escape are the
    page's."""
    own = {"pinned": list(pinned), "edits": edits, "said": said, "rowFont": 14}
    data = html.drawing_data(drawing) | own
    mark = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    held = {box.id for box in drawing.nodes}
    _PICTURE(
        drawing=data,
        mark=mark,
        chosen=[box for box in chosen if box in held],
        lit=sorted(lit & held),
        same=same,
        fixed=fixed,
        presented=presented,
        height=LEAST_HEIGHT,
        key=key,
        default=None,
    )


def reported(key: str, drawing: Drawing) -> Gesture | None:
    """The last gesture in the picture of this key, before it is drawn again; `drawing`: as it was drawn."""
    return gesture(st.session_state.get(key), {box.id for box in drawing.nodes})


def gesture(value: Any, held: set[str]) -> Gesture | None:
    """What the browser reported, of boxes that are in the picture; None for anything else."""
    if not isinstance(value, dict) or value.get("kind") not in KINDS:
        return None
    ids = value.get("ids")
    places = value.get("places") if isinstance(value.get("places"), dict) else {}
    found = [box for box in ids if box in held] if isinstance(ids, list) else []
    return Gesture(
        str(value["kind"]),
        tuple(found[:MOST_CHOSEN]),
        {box: at for box, one in places.items() if box in held and (at := _place(one)) is not None},
        str(value.get("name") or "")[:60],
        str(value.get("at")),
    )


def _place(one: Any) -> tuple[float, float] | None:
    try:
        x, y = float(one["x"]), float(one["y"])
    except (KeyError, TypeError, ValueError):
        return None
    return (x, y) if abs(x) < 1e6 and abs(y) < 1e6 else None
