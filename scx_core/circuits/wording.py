"""What the tests of a consensus or a difference allow to be said, a sentence each, from its file's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scx_core.circuits.circuit import Circuit
from scx_core.sentences import Ties
from scx_core.statistics.hypothesis_tests import Q

FAMILIES = ("genes", "features", "edges")


def said(circuit: Circuit) -> list[str]:
    """How many of how many differ at which rule, what the same rule finds in random halves of one side, over
    what the intervals are, and whether the cells are too few to find anything.

    Empty for a circuit without tests: one cell, a file of before, or one whose record cannot be read. The
    record may be anybody's: escape what is shown as HTML.
    """
    record = circuit.provenance.get("statistics")
    if not isinstance(record, Mapping):
        return []
    ties = tie_words(circuit)
    verb = "differ" if circuit.scope == "difference" else "are told from 0"
    try:
        lines = [
            _found(name, record["families"][name], verb) for name in FAMILIES if name in record["families"]
        ]
        return [*lines, f"Tests and intervals: {record['note']}.", *_too_few(record), *ties]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def tie_words(circuit: Circuit) -> list[str]:
    """How much of the sentences the order of ties decides; nothing where the file does not say."""
    stated = circuit.provenance.get("ties")
    try:
        return [Ties(**stated).words()] if isinstance(stated, Mapping) else []
    except (TypeError, ValueError):
        return []


def _found(name: str, one: Mapping[str, Any], verb: str) -> str:
    words = f"{one['found']:,} of {one['tested']:,} {name} {verb} (q < {Q})"
    split = one.get("null_split")
    if split is None:
        return words + "."
    none = split["splits"] - split["any"]
    return (
        f"{words}; between random halves of the first side, where nothing differs, {split['mean']:.3g} of "
        f"{split['tested']:,} (none in {none} of {split['splits']} splits, at most {split['most']:,})."
    )


def _too_few(record: Mapping[str, Any]) -> list[str]:
    """That so many cells cannot show a difference, or only where many genes differ."""
    least, tested = record["smallest_p"], record["families"]["genes"]["tested"]
    n = " and ".join(f"{number:,}" for number in record["units"])
    if least > Q:
        return [f"{n} {record['unit']} are too few: whatever the difference, p is {least:.2g} or more."]
    if least * tested <= Q:
        return []
    many = int(np.ceil(least * tested / Q))
    return [
        f"{n} {record['unit']} are few: p is {least:.1g} or more, so unless {many:,} of {tested:,} genes "
        "differ, none can be called different."
    ]
