"""Which type is asked about, what is known of it, and a button that measures."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.forms import config_form
from pages.parts.common.results import Memory, progress_in
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.measure import (
    TypesConfig,
    evidence_file,
    largest,
    measure_type,
    siblings,
)
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs import read_json

_RECORDS: Memory[TypeEvidence] = Memory(24)
_ASKED = ("cells", "measured", "knocked", "varied", "seed")


def types_to_choose(tracer: Tracer) -> list[str]:
    """Types with enough cells for two halves, the largest first. Raises ScxError where there is none."""
    found = largest(tracer, TypesConfig(types=1000))
    if not found:
        raise ScxError(
            f"{tracer.table.name} has no type with enough cells for two halves.",
            f"A type needs {TypesConfig().least} labelled cells that the model has an answer for.",
        )
    return found


def chosen_settings() -> TypesConfig:
    """The numbers of cells, as a person sets them."""
    return config_form(TypesConfig(), "evidence", _ASKED, columns=1)


def known(tracer: Tracer, label: str, cfg: TypesConfig) -> TypeEvidence | None:
    """The saved record; read once as long as its file stays the same. Raises ScxError when it is damaged."""
    path = evidence_file(tracer, label, cfg, siblings(tracer))
    if not path.exists():
        return None
    state = path.stat()
    key = (str(path), state.st_mtime_ns, state.st_size)
    return _RECORDS.get(key, lambda: TypeEvidence.from_json(read_json(path), Path(path).name))


def measure_button(
    tracer: Tracer, label: str, cfg: TypesConfig, again: bool, where: DeltaGenerator, place: DeltaGenerator
) -> None:
    """Measure now when a person asks, with a progress bar in `place`, and draw the page anew. Raises
    ScxError."""
    words, kind = ("Measure again", "secondary") if again else ("Measure", "primary")
    if where.button(words, type=kind, width="stretch"):  # type: ignore[arg-type]
        with tracer.lm.lock:
            measure_type(tracer, label, cfg, progress=progress_in(place, "measuring"))
        place.empty()
        st.rerun()
