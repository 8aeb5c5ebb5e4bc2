"""What is known of a circuit beside its trace: what an atlas calls its features, what validation says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages.parts.common.results import Memory
from pages.parts.common.words import safe
from scx_core.atlas.feature_naming import atlases_stamp, name_book
from scx_core.circuits import Circuit
from scx_core.circuits.feature_names import FROM_CIRCUIT, NameBook, names_of, with_names
from scx_core.circuits.words.whose import VALIDATION
from scx_core.validation.standing import Standing, standing_of, validations_stamp

_BOOKS: Memory[tuple[NameBook | None]] = Memory(4)
_STANDINGS: Memory[tuple[Standing | None]] = Memory(8)


def book(made_from: Mapping[str, Any]) -> NameBook | None:
    """The names of the fittest atlas of these features, read again when there is a new one.

    `made_from` is a provenance, or holds things with a fingerprint.
    """
    parts = (made_from.get(part) for part in ("data", "model", "transcoders"))
    key = (*(getattr(part, "fingerprint", None) or repr(part) for part in parts), atlases_stamp())
    return _BOOKS.get(key, lambda: (name_book(made_from),))[0]


def current(circuit: Circuit, sets_folder: Path | None = None) -> Circuit:
    """The circuit with what is known now: the names of an atlas, and what validation says of the model and
    the set. What a file states stays where nothing better is known here."""
    return _validated(named(circuit), sets_folder)


def _validated(circuit: Circuit, beside: Path | None) -> Circuit:
    parts = (circuit.provenance.get(part) for part in ("data", "model", "transcoders"))
    key = (*(repr(part) for part in parts), str(beside), validations_stamp())
    (found,) = _STANDINGS.get(key, lambda: (standing_of(circuit.provenance, beside),))
    if found is None:
        return circuit
    return circuit._replace(provenance=circuit.provenance | {VALIDATION: found.to_json()})


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
