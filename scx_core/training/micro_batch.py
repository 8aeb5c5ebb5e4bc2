"""How many cells go through at once: less memory for the same result, chosen by itself, halved when it fails.

A micro-batch bounds what grows with the number of tokens in a step: the model's forward pass and one
layer's pre-activations with their gradients. Everything that couples tokens (BatchTopK's cut, scales, counts)
stays over the whole batch, so the result is the same to the order of float32 sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.training.config import TranscoderConfig

T = TypeVar("T")


class TooLarge(ScxError):
    """Not even one cell at a time fits into the memory."""


USABLE = 0.7  # of the free memory
# Float32 values a token and unit of width that are alive at the peak: in a block of the model (attention,
# an MLP four times as wide), and for each feature a width (pre-activations, gates, gradients).
BLOCK_VALUES, FEATURE_VALUES = 24, 6
STATE_BYTES = 16  # a float32 weight, its gradient, and Adam's two moments
COUNTED = 2**31 - 1  # entries of a matrix that a graphics card can look for non-zero ones in
REMEDY = (
    "Use fewer features (expansion), shorter sentences, or more devices that share out the layers (parallel: "
    "layers)."
)
# How libraries say it that do not raise PyTorch's own error: the driver, cuBLAS, the processor's allocator.
SAID = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the device's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in SAID)


@contextmanager
def memory_in_words() -> Iterator[None]:
    """Raises ScxError for memory that ends inside, where no smaller micro-batch would help."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ScxError(
            f"The device's memory does not suffice: {str(error).splitlines()[0][:200]}",
            "The last checkpoint is kept. Free the device for this run, or start one with fewer cells in a "
            "step, fewer features (expansion), or devices that share out the layers (parallel: layers).",
        ) from error


class Micro:
    """The size of a micro-batch (None: all at once). It only ever falls; `note` says why, once."""

    def __init__(self, cells: int | None = None) -> None:
        self.cells = cells
        self.note = ""

    def run(self, job: Callable[[int], T], most: int, remedy: str = REMEDY) -> T:
        """`job(cells)` with at most `most`, again with half as many when the memory does not suffice. A job
        leaves nothing behind that a second try would count twice.

        Raises ScxError with the `remedy` when not even one cell fits.
        """
        while True:
            cells = min(self.cells or most, most)
            try:
                return job(cells)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if cells == 1:
                    raise TooLarge(
                        "The device's memory does not suffice for a single cell at a time.",
                        f"The last checkpoint is kept. {remedy}",
                    ) from error
            # Outside of the handler: until here the error held the tensors of the try that failed.
            self.cells = max(1, cells // 2)
            self.note = f"out of memory: {self.cells} cells at a time from here on"
            print(self.note, file=sys.stderr, flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def pieces(self, job: Callable[[slice], T], n: int, most: int) -> Iterator[T]:
        """`job` on `n` cells, at most `most` one time after another, smaller pieces where the memory does not
        suffice. Raises ScxError as `run` does."""
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


def weights_of(cfg: TranscoderConfig, d: int, layers: int) -> int:
    """Trained weights of so many layers."""
    later = layers * (layers - 1) // 2 if cfg.form == "cross-layer" else 0
    layer = cfg.expansion * d * (2 * d + 1) + d + (d * d if cfg.skip else 0)
    return layers * layer + later * cfg.expansion * d * d


def choose_cells(
    lm: Language, cfg: TranscoderConfig, wish: int, cells: int, tokens: int, layers: int
) -> int | None:
    """The micro-batch of a step of `cells` cells with `tokens` tokens on `layers` layers: the wish, or for 0
    what fits into the memory of a graphics card that weights and optimiser will leave free; on a processor
    None, the whole step."""
    if wish or lm.device.type != "cuda":
        return wish or None
    d = lm.facts.width
    kept = 2 * 4 * tokens * d * layers  # inputs and outputs of their MLPs, whole batch
    kept += STATE_BYTES * weights_of(cfg, d, layers)
    at_once = layers if cfg.form == "cross-layer" else 1
    a_cell = 4 * (tokens / cells) * d * (BLOCK_VALUES + FEATURE_VALUES * cfg.expansion * at_once)
    free = USABLE * torch.cuda.mem_get_info(lm.device)[0] - kept
    countable = COUNTED * cells / (tokens * cfg.expansion * d)
    return int(min(cells, max(1, min(free // a_cell, countable))))


def slices(n: int, parts: int) -> Iterator[slice]:
    """`n` things in `parts` even pieces; empty ones are left out."""
    ends = [n * part // parts for part in range(parts + 1)]
    return (slice(a, b) for a, b in pairwise(ends) if b > a)
