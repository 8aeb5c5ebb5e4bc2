"""Many prompts frozen and traced side by side: a trace is many small operations, which two threads with one
core each get through faster than one thread that shares every operation out over two cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from scx_core.attribution.local_replacement_model import FrozenPrompt, freeze_many
from scx_core.attribution.replacement_model import Replacement

Found = TypeVar("Found")
AT_ONCE = 4  # prompts that one thread freezes together
WORKERS = 4  # threads, at most: the model itself is run by one at a time


@contextmanager
def _one_core_each() -> Iterator[int]:
    """How many threads pay on this computer, each of which has one core inside."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield min(cores, WORKERS)
    finally:
        torch.set_num_threads(cores)


def trace_many(
    rep: Replacement,
    prompts: Sequence[Sequence[int]],
    trace: Callable[[int, FrozenPrompt], Found],
    logits: int = 1,
) -> Iterator[Found]:
    """`trace(number, frozen)` of every prompt, in order. On a GPU, one by one. `logits`: see freeze."""
    if rep.lm.device.type != "cpu":
        yield from (trace(i, frozen) for i, frozen in enumerate(freeze_many(rep, prompts, logits)))
        return
    model = threading.Lock()  # the model's insides are read by hooks, which would hear every thread

    def some(first: int) -> list[Found]:
        torch.set_num_threads(1)  # OpenMP keeps this number for each thread
        with model:
            frozen = list(freeze_many(rep, prompts[first : first + AT_ONCE], logits))
        return [trace(i, one) for i, one in enumerate(frozen, first)]

    with _one_core_each() as workers, ThreadPoolExecutor(workers) as pool:
        for found in pool.map(some, range(0, len(prompts), AT_ONCE)):
            yield from found
