"""Benchmarks: how long the steps that a user waits for take here, and how much memory.

In comes what is to be timed; out go rows of numbers with the machine they were taken on. Nothing is
asserted: a number is for reading, tests are elsewhere.
"""

from scx_core.bench.atlas import bench_atlas
from scx_core.bench.machine import Timed, machine, timed
from scx_core.bench.random_410m.long_prompts import bench_long
from scx_core.bench.real_size import bench_jobs
from scx_core.bench.sentences import bench_sentences
from scx_core.bench.smallest import bench_smallest
from scx_core.bench.tracing import bench_410m, bench_circuits, bench_trace
