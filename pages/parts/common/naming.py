"""What the features of a circuit are called on the pages: by an atlas where there is one, and it is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages.parts.common.results import Memory
from pages.parts.common.words import safe
from scx_core.atlas.feature_naming import atlases_stamp, name_book
from scx_core.circuits import Circuit
from scx_core.circuits.feature_names import FROM_CIRCUIT, NameBook, names_of, with_names

_BOOKS: Memory[tuple[NameBook | None]] = Memory(4)


def book(made_from: Mapping[str, Any]) -> NameBook | None:
    """The names of the fittest atlas of these features, read again when there is a new one.

    `made_from` is a provenance, or holds things with a fingerprint.
    """
    parts = (made_from.get(part) for part in ("data", "model", "transcoders"))
    key = (*(getattr(part, "fingerprint", None) or repr(part) for part in parts), atlases_stamp())
    return _BOOKS.get(key, lambda: (name_book(made_from),))[0]


def named(circuit: Circuit) -> Circuit:
    """The circuit with the names of the atlas that is there now; its provenance says which."""
    found = book(circuit.provenance)
    if found is None or found.source == names_of(circuit.provenance):
        return circuit
    return with_names(circuit, found)


def says(circuit: Circuit) -> str:
    """Where the names of the features are from, in words for the page."""
    source = names_of(circuit.provenance)
    if not source:
        return "This file does not say what its features are active at."
    if source == FROM_CIRCUIT:
        return "Features are called after where they are active in these cells: no atlas describes them yet."
    return f"Features: {safe(source)}."
