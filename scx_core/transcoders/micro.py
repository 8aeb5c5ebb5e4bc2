"""How many cells go through at once: less memory for the same result, chosen by itself, halved when it fails.

A micro-batch bounds what grows with the number of tokens in a step: the model's forward pass and one
layer's pre-activations with their gradients. Everything that couples tokens (BatchTopK's cut, scales, counts)
stays over the whole batch, so the result is the same to the order of float32 sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.transcoders.config import TranscoderConfig

T = TypeVar("T")
USABLE = 0.7  # of the free memory
# Float32 values a token and unit of width that are alive at the peak: in a block of the model (attention,
# an MLP four times as wide), and for each feature a width (pre-activations, gates, gradients).
BLOCK_VALUES, FEATURE_VALUES = 24, 6


class Micro:
    """The size of a micro-batch (None: all at once). It only ever falls; `note` says why, once."""

    def __init__(self, cells: int | None = None) -> None:
        self.cells = cells
        self.note = ""

    def run(self, job: Callable[[int], T], most: int) -> T:
        """`job(cells)` with at most `most`, again with half as many when the memory does not suffice. A job
        leaves nothing behind that a second try would count twice.

        Raises ScxError when not even one cell fits.
        """
        while True:
            cells = min(self.cells or most, most)
            try:
                return job(cells)
            except torch.OutOfMemoryError as error:
                if cells == 1:
                    raise ScxError(
                        "The device's memory does not suffice for a single cell at a time.",
                        "The last checkpoint is kept. Use fewer features (expansion), shorter sentences, or "
                        "more devices that share out the layers (parallel: layers).",
                    ) from error
            # Outside of the handler: until here the error held the tensors of the try that failed.
            self.cells = max(1, cells // 2)
            self.note = f"out of memory: {self.cells} cells at a time from here on"
            print(self.note, file=sys.stderr, flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def pop_note(self) -> str:
        """What is to be said about a change since the last call; "" for none."""
        note, self.note = self.note, ""
        return note


def choose_cells(lm: Language, cfg: TranscoderConfig, wish: int, cells: int, tokens: int) -> int | None:
    """The micro-batch of a step of `cells` cells with `tokens` tokens: the wish, or for 0 what fits into the
    free memory of a graphics card; on a processor None, the whole step."""
    if wish or lm.device.type != "cuda":
        return wish or None
    d = lm.facts.width
    kept = 2 * 4 * tokens * d * lm.facts.n_layers  # inputs and outputs of every MLP, whole batch
    a_cell = 4 * (tokens / cells) * d * (BLOCK_VALUES + FEATURE_VALUES * cfg.expansion)
    free = USABLE * torch.cuda.mem_get_info(lm.device)[0] - kept
    return int(min(cells, max(1, free // a_cell)))


def slices(n: int, parts: int) -> Iterator[slice]:
    """`n` things in `parts` even pieces; empty ones are left out."""
    ends = [n * part // parts for part in range(parts + 1)]
    return (slice(a, b) for a, b in pairwise(ends) if b > a)
