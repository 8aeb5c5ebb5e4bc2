"""What to do when the device's memory does not suffice: the same again, less at a time.

One rule for every job that runs a model on many cells, or carries many rows: an attempt leaves nothing behind
that a second one would count twice (`unchanged_if_it_fails`), and is made again with half as much. It ends in
a smaller batch, said once, or in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from scx_core.errors import ScxError

T = TypeVar("T")

REMEDY = (
    "What was written before is kept. Free the device for this job, take fewer genes a sentence (--n-genes), "
    "or run it on the processor (--device cpu)."
)
# How libraries say it that do not raise PyTorch's own error: the driver, cuBLAS, the processor's allocator.
SAID = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory")


class TooLarge(ScxError):
    """Not even one cell (or row) at a time fits into the memory."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in SAID)


class MicroBatch:
    """How many cells, or what `units` says, are taken at a time (None: all at once). It only ever falls;
    `note` says why, once."""

    def __init__(self, cells: int | None = None, remedy: str = REMEDY, units: str = "cells") -> None:
        self.cells, self.remedy, self.units = cells, remedy, units
        self.note = ""

    def run(self, job: Callable[[int], T], most: int, remedy: str | None = None) -> T:
        """`job(cells)` with at most `most`, again with half as many when the memory does not suffice. A job
        leaves nothing behind that a second try would count twice.

        Raises TooLarge with the `remedy` when not even one cell fits.
        """
        while True:
            cells = min(self.cells or most, most)
            try:
                return job(cells)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if cells <= 1:
                    raise TooLarge(
                        f"The device's memory does not suffice for {self.units}, one at a time.",
                        remedy or self.remedy,
                    ) from error
            # Outside of the handler: until here the error held the tensors of the try that failed.
            self.cells = max(1, cells // 2)
            self.note = f"out of memory: {self.cells} {self.units} at a time from here on"
            print(self.note, file=sys.stderr, flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def pieces(self, job: Callable[[slice], T], n: int, most: int) -> Iterator[T]:
        """`job` on `n` cells, at most `most` one time after another, smaller pieces where the memory does not
        suffice. Raises TooLarge as `run` does."""
        start = 0

        def attempt(cells: int) -> tuple[T, int]:
            return job(slice(start, start + cells)), cells

        while start < n:
            found, cells = self.run(attempt, min(most, n - start))
            yield found
            start += cells

    def pop_note(self) -> str:
        """What is to be said about a change since the last call; "" for none."""
        note, self.note = self.note, ""
        return note


@contextmanager
def unchanged_if_it_fails(*sums: Any) -> Iterator[None]:
    """Objects that add up what they are given are as before when what is done inside fails.

    Tensors and arrays that they hold are copied, and so are lists, but not what lists of arrays hold: those
    are added to and never changed.
    """
    before = [{name: _copied(value) for name, value in vars(one).items()} for one in sums]
    try:
        yield
    except BaseException:
        for one, kept in zip(sums, before, strict=True):
            vars(one).clear()
            vars(one).update(kept)
        raise


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list):
        return list(value) if value and isinstance(value[0], np.ndarray) else [_copied(one) for one in value]
    if isinstance(value, tuple):
        parts = [_copied(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if hasattr(value, "__dict__") and not callable(value):
        made = object.__new__(type(value))
        vars(made).update({name: _copied(one) for name, one in vars(value).items()})
        return made
    return value
