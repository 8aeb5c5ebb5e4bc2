"""A circuit that was saved, opened on the page: where it comes from, and the way back to tracing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import streamlit as st

from pages.parts.circuits.pictures import Picture, keep
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.session import Context
from pages.parts.common.words import count, safe
from scx_core.circuits import Circuit, Origin, origins
from scx_core.errors import ScxError
from scx_core.figures.drawing.edits import Edits
from scx_core.figures.drawing.text import plain
from scx_core.figures.saved_view import parse_view

KEY, NUMBER = "scx_opened_circuit", "scx_opened_number"
MOST_MB = 50
_WORDS = {"data": "cells", "model": "model", "transcoders": "transcoders"}
_STATES = {
    True: ":green-badge[in use here]",
    False: ":orange-badge[not what is in use here]",
    None: ":gray-badge[cannot be compared with what is in use]",
}


class Opened(NamedTuple):
    """A circuit and the name of the file that it came in, or of the feature that was traced here."""

    name: str
    circuit: Circuit
    from_file: bool = True


def opened() -> Opened | None:
    """The saved circuit that is to be shown instead of a traced one."""
    return st.session_state.get(KEY)


def show(name: str, circuit: Circuit) -> None:
    """Show a circuit that was traced elsewhere in the app."""
    st.session_state[KEY] = Opened(name, circuit, from_file=False)


def opener() -> None:
    """Where a file is given. A file that is no circuit is refused in words, and the page goes on."""
    number = st.session_state.setdefault(NUMBER, 0)
    with st.popover("Open a saved circuit", icon=":material/folder_open:", type="tertiary"):
        file = st.file_uploader(
            "A circuit or a view (JSON)",
            type="json",
            max_upload_size=MOST_MB,
            key=f"saved circuit {number}",
            help="What the JSON button under Export wrote, or `scx trace` or `scx circuit` with `--json`. "
            "Nothing is traced, and the model that made it need not be here.",
        )
    if file is None:
        return
    with shown_errors():
        saved = parse_view(file.getvalue(), plain(file.name), MOST_MB * 1_000_000)
        st.session_state[KEY] = Opened(plain(file.name, 60), saved.circuit)
        if saved.edits != Edits() or saved.chosen:
            keep(saved.circuit, Picture((Edits(), saved.edits), saved.chosen))
        st.session_state[NUMBER] = number + 1  # an empty uploader, for the next file
        st.rerun()


def close() -> None:
    """Back to tracing."""
    st.session_state.pop(KEY, None)


def heading(found: Opened) -> None:
    """Whose circuit it is, from which file, and the way back."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    circuit = found.circuit
    scope = "in one cell" if circuit.scope == "cell" else f"over {count(circuit.n_cells, 'cell')}"
    whence = f"From the file {safe(found.name)}." if found.from_file else "What makes this feature fire."
    left.markdown(f"**{safe(plain(circuit.target.label, 120))}** {scope}. {whence}")
    right.button("Back to tracing", on_click=close, icon=":material/arrow_back:", width="stretch")


def min_share(circuit: Circuit) -> float:
    """The share of cells from which its consensus kept features, 0 when it does not say."""
    place: object = circuit.provenance
    for key in ("config", "consensus", "min_share"):
        place = place.get(key) if isinstance(place, Mapping) else None
    return float(place) if isinstance(place, (int, float)) and 0 <= place <= 1 else 0.0


def note(ctx: Context, found: Opened) -> str:
    """What the file says that it was made from, and whether that is in use here, by fingerprint."""
    parts = [_part(origin) for origin in origins(found.circuit.provenance, _in_use(ctx))]
    says = "The file says that it was made from" if found.from_file else "Made from"
    return f"{says} {', '.join(parts)}."


def _part(origin: Origin) -> str:
    name = safe(plain(origin.name, 60)) or "not stated"
    mark = f" ({safe(plain(origin.fingerprint)[:8])})" if origin.fingerprint else ""
    return f"{_WORDS[origin.part]} **{name}**{mark} {_STATES[origin.same]}"


def _in_use(ctx: Context) -> dict[str, str]:
    """Fingerprints of what is in use; what cannot be opened has none."""
    found: dict[str, str] = {}
    for part, load in (
        ("data", loaders.cells),
        ("model", loaders.language),
        ("transcoders", loaders.transcoders),
    ):
        with contextlib.suppress(ScxError):
            found[part] = load(ctx).fingerprint
    return found
