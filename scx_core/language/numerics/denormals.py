"""How numbers are handled while training on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Inside, numbers below 1e-38 count as 0 in this thread and in those that it starts.

    Gradients of a confident model are full of them, and CPUs multiply them many times slower.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
