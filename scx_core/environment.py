"""What an entry point (the command line, the dashboard, a benchmark) sets for its own process.

Importing the package sets nothing. A notebook that wants the same speed, and the same last digits as the
command line, calls `prepare_process()` before it imports torch. A variable that is set already stays.
"""

from __future__ import annotations

import os

VARIABLES = {
    # Threads of PyTorch wait for their next task by spinning; the compiled loops in between need those cores.
    # Read when the OpenMP library is loaded: without effect once PyTorch is imported.
    "GOMP_SPINCOUNT": "1000",
    # oneDNN compiles a program for every shape and keeps 1,024 of them, of up to 4 MB each, while every batch
    # has a number of tokens of its own. Read at the first product; compiling one anew takes 0.7 ms.
    "LRU_CACHE_CAPACITY": "64",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    # 1: float32 products on a processor by oneDNN where it is at hand (language/onednn_linear.py); 0: never.
    "SCX_ONEDNN": "1",
}


def prepare_process() -> None:
    """Set `VARIABLES` where the person has not, before torch is imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
