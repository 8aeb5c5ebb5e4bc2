"""Time and memory before a start, from a trial of a few steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.loaders import MODEL_LOCK
from pages.parts.common.results_cache import Memory
from pages.parts.common.words import count, duration, safe, size
from scx_core.training.estimate import TrainingEstimate

SMALL = 50_000_000  # parameters up to which the trial takes no more than seconds
_FOUND: Memory[TrainingEstimate] = Memory(64)


def show_estimate(
    place: DeltaGenerator,
    key: Hashable,
    measure: Callable[[], TrainingEstimate],
    device: str,
    *,
    parameters: int = 0,
    note: str = "",
) -> None:
    """One sentence in `place`; for a model of many `parameters` only when asked for. Raises ScxError."""
    if parameters > SMALL and _FOUND.peek(key) is None and not place.button("Estimate time and memory"):
        return
    slot = place.empty()
    if _FOUND.peek(key) is None:
        slot.caption("Trying a few steps, to say how long it will take …")
    with MODEL_LOCK:
        found = _FOUND.get(key, measure)
    slot.markdown(
        f"About **{duration(found.seconds)}** on {safe(device.upper())} and **{size(found.bytes)}** of "
        f"memory. {note}",
        help=f"Two steps on random tokens of the usual length ({count(found.tokens_per_step, 'token')} each, "
        f"{count(found.parameters, 'weight')}), extrapolated. Other jobs make it slower.",
    )
