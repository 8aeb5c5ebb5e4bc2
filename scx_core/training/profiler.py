"""Where the time of a training step goes: parts of it have names, and a stopwatch hears them when it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

PHASES = ("model", "encode", "select", "decode", "backward", "optimiser")
_seconds: ContextVar[dict[str, float] | None] = ContextVar("seconds", default=None)
_card: ContextVar[torch.device | None] = ContextVar("card", default=None)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize(_card.get())
    return time.perf_counter()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """The block is the part `name` of a step. Costs nothing unless `stopwatch` runs, which waits for a GPU at
    both ends of each part."""
    seconds = _seconds.get()
    if seconds is None:
        yield
        return
    since = _now()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + _now() - since


@contextmanager
def stopwatch(device: torch.device | None = None) -> Iterator[dict[str, float]]:
    """Seconds of each phase inside; `device` is the card that is waited for (default: the current one)."""
    seconds: dict[str, float] = {}
    token = _seconds.set(seconds)
    card = _card.set(device if device is not None and device.type == "cuda" else None)
    try:
        yield seconds
    finally:
        _seconds.reset(token)
        _card.reset(card)
