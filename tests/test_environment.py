"""Freed memory stays with the process, unless the person or the C library says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# 64 MB are written ten times; each time pages of the kernel come again, unless they were kept
PROGRAM = """
import ctypes, resource
from scx_core.environment import keep_memory, prepare_process
prepare_process()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def once():
    block = library.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    library.free(block)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(keep_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(**extra: str) -> tuple[bool, int]:
    held = {name: value for name, value in os.environ.items() if name != "SCX_KEEP_MEMORY"}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=held | extra, check=True, capture_output=True, text=True
    ).stdout.split()
    return out[0] == "True", int(out[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_freed_block_is_not_fetched_from_the_kernel_again():
    done, faults = _run()
    refused, many = _run(SCX_KEEP_MEMORY="0")
    assert done and not refused
    assert faults < 100 and many > 1000


def test_glibc_settings_of_the_person_stay():
    assert _run(MALLOC_ARENA_MAX="4")[0] is False


THREADS = """
from contextlib import suppress
from scx_core.cli.main import main
with suppress(SystemExit):
    main(["--version"])
import numpy
from threadpoolctl import threadpool_info
print(*(one["num_threads"] for one in threadpool_info() if one["internal_api"] == "openblas"))
"""


@pytest.mark.parametrize("own", [None, "2"])
def test_numpy_s_linear_algebra_spins_beside_nothing(own):
    """Its threads keep the cores behind every product: one, unless the person says otherwise."""
    pytest.importorskip("threadpoolctl")
    held = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    extra = {"OPENBLAS_NUM_THREADS": own} if own else {}
    out = subprocess.run(
        [sys.executable, "-c", THREADS], env=held | extra, check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1]
    if not out:
        pytest.skip("this NumPy has no OpenBLAS")
    assert {int(n) for n in out.split()} == {1 if own is None else min(2, os.cpu_count() or 1)}


GENES = """
import sys
import torch
from scx_core.cells.differential import wilcoxon_scores
from tests.tiny import tiny_table
table = tiny_table(20)
torch.set_num_threads(int(sys.argv[1]))
assert wilcoxon_scores(table, range(10), range(10, 20)).any()
import numba
print(torch.get_num_threads(), numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS)
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_test_of_genes_leaves_pytorch_the_threads_that_it_had(threads):
    """numba starts one for every core by OpenMP, which then held for PyTorch too: other last digits."""
    out = subprocess.run(
        [sys.executable, "-c", GENES, str(threads)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert out == [str(threads), "True"]
