"""What a person did to the pictures of this session: kept by what a picture shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from scx_core.circuits import Circuit
from scx_core.figures.drawing.edits import Edits

KEY, MOST_PICTURES = "scx_pictures", 24


class Picture(NamedTuple):
    """What a person made of a picture: every state of it, the newest last; what is chosen."""

    states: tuple[Edits, ...] = (Edits(),)
    chosen: tuple[str, ...] = ()

    @property
    def edits(self) -> Edits:
        """The state now."""
        return self.states[-1]


def name_of(circuit: Circuit) -> str:
    """What a picture is kept under: the nodes and the target, whatever was measured of them since."""
    parts = [circuit.scope, circuit.target.label, str(circuit.n_cells), *(node.id for node in circuit.nodes)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def picture_of(circuit: Circuit) -> Picture:
    """What a person made of this circuit's picture in this session."""
    return st.session_state.setdefault(KEY, {}).get(name_of(circuit), Picture())


def edits_of(circuit: Circuit) -> Callable[[], Edits]:
    """What gives the edits of this picture at the time when it is called, which may be after the page was
    drawn: a gesture draws the picture alone again."""
    pictures: dict[str, Picture] = st.session_state.setdefault(KEY, {})
    name = name_of(circuit)
    return lambda: pictures.get(name, Picture()).edits


def keep(circuit: Circuit, made: Picture) -> None:
    """Keep it; the pictures that were touched longest ago are dropped."""
    pictures = st.session_state.setdefault(KEY, {})
    name = name_of(circuit)
    pictures.pop(name, None)
    pictures[name] = made
    while len(pictures) > MOST_PICTURES:
        pictures.pop(next(iter(pictures)))
