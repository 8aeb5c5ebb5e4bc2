"""The labels of an atlas for the features of a circuit, read again when there is a new one."""

from __future__ import annotations

from pages.parts.memory import Memory
from scx_core.atlas.naming import labels_for, labels_stamp
from scx_core.circuits import Circuit

_LABELS: Memory[dict[str, str]] = Memory(4)


def names(circuit: Circuit) -> dict[str, str]:
    """Labels by "L2·513"; empty where no atlas describes these features."""
    about = circuit.provenance
    key = (*(repr(about.get(part)) for part in ("data", "model", "transcoders")), labels_stamp())
    return _LABELS.get(key, lambda: labels_for(about))
