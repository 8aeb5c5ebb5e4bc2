"""What an entry point (the command line, the dashboard, a benchmark) sets for its own process.

Importing the package sets nothing. A notebook that wants the same speed, and the same last digits as the
command line, calls `prepare_process()` before it imports torch. A variable that is set already stays.

Memory is kept: glibc gives blocks of more than 128 KB to 32 MB back to the kernel when they are freed, and
the next block of that size comes page by page, zeroed, from there. With tensors of 10 to 100 MB that was
half of the time of a trace at 410m dimensions. `keep_memory` raises the thresholds here; where the
C library is another one, or the person has set glibc's own variables, nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = {
    # Threads of PyTorch wait for their next task by spinning; the compiled loops in between need those cores.
    # Read when the OpenMP library is loaded: without effect once PyTorch is imported.
    "GOMP_SPINCOUNT": "1000",
    # NumPy's linear algebra has threads of its own, which keep spinning for tens of milliseconds behind a
    # product; what PyTorch does next shares the cores with them. On two a circuit took up to twice as long.
    # Read when NumPy is loaded: without effect once it is imported.
    "OPENBLAS_NUM_THREADS": "1",
    # oneDNN compiles a program for every shape and keeps 1,024 of them, of up to 4 MB each, while every batch
    # has a number of tokens of its own. Read at the first product; compiling one anew takes 0.7 ms.
    "LRU_CACHE_CAPACITY": "64",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    # 1: float32 products on a processor by oneDNN where it is at hand (language/numerics); 0: never.
    "SCX_ONEDNN": "1",
    # 1: freed memory stays with the process up to a limit (`keep_memory`); 0: glibc's own way.
    "SCX_KEEP_MEMORY": "1",
}

# Parameters of mallopt(3): number in malloc.h, value. Blocks below the first come from the heap and stay
# there when freed, up to the second at its end; threads share one heap, as others give large blocks back.
MALLOPT = {
    "M_MMAP_THRESHOLD": (-3, 1 << 30),
    "M_TRIM_THRESHOLD": (-1, 1 << 30),
    "M_ARENA_MAX": (-8, 1),
}


def prepare_process() -> None:
    """Set `VARIABLES` where the person has not, before torch is imported, and keep freed memory."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    keep_memory()


def keep_memory() -> bool:
    """Raise glibc's thresholds for this process, `MALLOPT`; whether that was done."""
    if os.environ.get("SCX_KEEP_MEMORY") != "1":
        return False
    chosen = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if chosen or not sys.platform.startswith("linux"):
        return False
    try:
        # Another C library has no such version, or an allocator that is loaded in front has its own settings.
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018
        done = [library.mallopt(number, value) for number, value in MALLOPT.values()]
        return all(done)
    except (AttributeError, OSError):
        return False


@contextmanager
def threads_of_torch() -> Iterator[None]:
    """Inside, scanpy's compiled loops have as many threads as PyTorch has, and PyTorch keeps its number.

    numba starts as many threads as there are cores, by OpenMP, which then holds for PyTorch too: after the
    first test of genes a process that was started with OMP_NUM_THREADS=1, or told so by
    `torch.set_num_threads`, would compute with all of them: other orders of sums, other last digits.
    """
    import numba
    import torch

    threads = torch.get_num_threads()
    before = numba.get_num_threads()  # starts them
    numba.set_num_threads(min(threads, before))
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(threads)


def memory_words() -> str:
    """What this process does with freed memory, for people who measure it."""
    if keep_memory():
        return "up to 1 GiB of freed memory is kept; SCX_KEEP_MEMORY=0 gives it back at once"
    return "freed memory goes the C library's own way"
