"""A view as one file: the circuit, how much of it is drawn, what a person did to the picture, what was
chosen.

It opens without the model and the cells that made it, and `scx export VIEW.json` draws it as it was left.
Whoever wrote it, it is read as a circuit is (circuit.py): in full, or refused in one line.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from scx_core.circuits.circuit import Circuit, parse_circuit
from scx_core.errors import ScxError
from scx_core.figures.drawing.drawing import View
from scx_core.figures.drawing.edits import Edits
from scx_core.figures.drawing.select import merge_nodes
from scx_core.runs.options import from_dict, to_dict

VERSION, MARK = 1, "scx_view"
REMEDY = "Give the JSON that `Save this view` or an export of a circuit wrote."


class SavedView(NamedTuple):
    """`asked`: what the address of the page said, for people; nothing is opened by it."""

    circuit: Circuit
    edits: Edits = Edits()
    view: View = View()
    chosen: tuple[str, ...] = ()
    asked: dict[str, str] = {}  # noqa: RUF012

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`; `parse_view` gives back an equal view."""
        return {
            MARK: VERSION,
            "asked": dict(self.asked),
            "view": to_dict(self.view),
            "edits": self.edits.to_json(),
            "chosen": list(self.chosen),
            "circuit": self.circuit.to_json(),
        }


def parse_view(content: bytes, name: str, most_bytes: int | None = None) -> SavedView:
    """The view in the content of a file called `name`; a circuit alone is a view that nothing was done to.

    Raises ScxError when it is longer than `most_bytes`, or no view and no circuit.
    """
    whole = most_bytes is None or len(content) <= most_bytes
    try:
        data = json.loads(content) if whole else None
    except (ValueError, RecursionError):
        data = None  # said below, where a circuit is asked for
    if not isinstance(data, dict) or MARK not in data:
        return SavedView(parse_circuit(content, name, most_bytes))
    if data[MARK] != VERSION:
        raise ScxError(f"{name[-80:]} has another format of views than this version reads.", "Update scX.")
    circuit = Circuit.from_json(data.get("circuit"), name[-80:])
    edits = Edits.from_json(data.get("edits"))
    try:
        view = from_dict(View, data.get("view") or {})
        chosen = [box for box in data.get("chosen") or () if isinstance(box, str)]
        asked = {str(key)[:40]: str(value)[:400] for key, value in dict(data.get("asked") or {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ScxError(f"{name[-80:]} holds no view that can be read.", REMEDY) from error
    boxes, _ = merge_nodes(circuit.nodes)
    return SavedView(circuit, edits, view, tuple(box for box in chosen if box in boxes)[:200], asked)
