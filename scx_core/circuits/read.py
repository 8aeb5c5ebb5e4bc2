"""Circuits that were saved: read from a file or from bytes that somebody sent, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.circuits.circuit import REMEDY, Circuit
from scx_core.errors import ScxError


class Origin(NamedTuple):
    """What a circuit was made from. `part` is data, model or transcoders; `same`: it is what is in use now,
    by its fingerprint; None when one of the two is not known."""

    part: str
    name: str
    fingerprint: str
    same: bool | None


def read_circuit(path: Path | str) -> Circuit:
    """The circuit in a JSON file. Raises ScxError when there is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ScxError(f"{path} could not be read: {error.strerror}.", "Check the path.") from error
    return parse_circuit(content, str(path))


def parse_circuit(content: bytes, name: str, most_bytes: int | None = None) -> Circuit:
    """The circuit in the content of a file called `name`, whoever wrote it.

    Raises ScxError when it is longer than `most_bytes`, no JSON, or no circuit (see `Circuit.from_json`).
    """
    shown = name[-80:]
    if most_bytes is not None and len(content) > most_bytes:
        problem = f"{shown} has {len(content) / 1e6:.0f} MB; at most {most_bytes / 1e6:.0f} MB are read."
        raise ScxError(problem, "Trace it with fewer nodes, or open it with `scx export`.")
    try:
        data = json.loads(content)
    # A number of thousands of digits is a plain ValueError, as broken JSON and broken UTF-8 are.
    except (ValueError, RecursionError) as error:
        raise ScxError(f"{shown} is not valid JSON ({str(error)[:120]}).", REMEDY) from error
    return Circuit.from_json(data, shown)


def origins(provenance: Mapping[str, Any], in_use: Mapping[str, str]) -> tuple[Origin, ...]:
    """Data, model and transcoders of a circuit beside those in use, whose fingerprints `in_use` gives.

    A part that the provenance does not state has an empty name and fingerprint.
    """
    found = []
    for part in ("data", "model", "transcoders"):
        stated = provenance.get(part)
        record: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {"name": stated or ""}
        mark, now = str(record.get("fingerprint") or ""), in_use.get(part, "")
        same = mark == now if mark and now else None
        found.append(Origin(part, str(record.get("name") or ""), mark, same))
    return tuple(found)
