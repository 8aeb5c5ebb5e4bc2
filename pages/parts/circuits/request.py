"""What is asked for on the circuit page before anything is loaded: the start page may ask without torch."""

from __future__ import annotations

from pages.parts.common import kept_widgets as kept
from pages.parts.common.session import use_default
from scx_core.cells import CellTable, known_markers

CONTROLS = ("label", "against", "scope", "cell", "cells")


def ask_for_embedded() -> None:
    """The embedded default, and B cells: what "Show me a circuit" means."""
    use_default()
    ask_for_default()


def ask_for_default() -> None:
    """The controls as they are at first."""
    kept.forget(*CONTROLS)


def first_type(table: CellTable) -> str:
    """The type shown first: B cells where there are any, else the most frequent."""
    for label in table.types:
        known = known_markers(label)
        if known is not None and known.cell_type == "B cell":
            return label
    return str(table.cells_per_type().index[0])
