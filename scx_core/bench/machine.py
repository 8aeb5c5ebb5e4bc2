"""What a benchmark ran on, a stopwatch, and a process of its own for what is measured."""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

import scx_core
from scx_core.environment import keep_memory
from scx_core.errors import ScxError


class Timed(NamedTuple):
    """Seconds of one job over `runs` repeats."""

    what: str
    median_s: float
    worst_s: float
    runs: int


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Lap(NamedTuple):
    """One step of a job: seconds that passed, those of the processor (all threads), and the largest memory
    in it, GiB (resident, or a card's); where the system cannot begin to count anew (it can on Linux and on
    cards), the largest until its end."""

    what: str
    wall_s: float
    cpu_s: float
    peak_gib: float


Told = Callable[[Lap], None]
"""Called with each step as it ends: of a run that a limit stops one then knows where it was."""


def untold(lap: Lap) -> None:
    """Says nothing."""


class Stopwatch:
    """Laps one after the other; CUDA work is waited for at the end of each, and `told` is called with it."""

    def __init__(self, device: torch.device, told: Told = untold) -> None:
        self.device, self.laps, self._told = device, list[Lap](), told
        restart_peak(device)
        self._start = time.perf_counter(), time.process_time()

    def lap(self, what: str) -> None:
        """End the step that runs since the last lap."""
        wait(self.device)
        now, (wall, cpu) = (time.perf_counter(), time.process_time()), self._start
        self.laps.append(Lap(what, now[0] - wall, now[1] - cpu, peak_gib(self.device)))
        self._told(self.laps[-1])
        restart_peak(self.device)
        self._start = time.perf_counter(), time.process_time()

    def peak_gib(self, first: int = 0) -> float:
        """The largest peak of the laps from number `first` on."""
        return max(lap.peak_gib for lap in self.laps[first:])


def timed(what: str, job: Callable[[], object], runs: int = 5, warm: int = 1) -> Timed:
    """Run a job `warm` times untimed, then `runs` times; CUDA work is waited for."""
    for _ in range(warm):
        job()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        job()
        wait(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        seconds.append(time.perf_counter() - start)
    return Timed(what, statistics.median(seconds), max(seconds), runs)


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Processor, cores, memory and versions, for the head of a table."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    where: dict[str, Any] = {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "freed memory": "kept" if keep_memory() else "given back",
    }
    if torch.device(device).type == "cuda":
        where["gpu"] = torch.cuda.get_device_name(device)
    return where


def peak_gib(device: torch.device | None = None) -> float:
    """The largest resident memory of this process so far, GiB; of a card what its tensors took there."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        # What getrusage says may be the peak of the process that started this one.
        with open("/proc/self/status", encoding="utf-8") as file:
            return int(next(line.split()[1] for line in file if line.startswith("VmHWM"))) / 2**20
    except (OSError, StopIteration):
        pass
    usage = psutil.Process().memory_info()
    peak = getattr(usage, "peak_wset", None)
    if peak is None:
        import resource  # not on Windows, where peak_wset exists

        scale = 1 if platform.system() == "Darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return float(peak) / 2**30


def restart_peak(device: torch.device | None = None) -> None:
    """Count the largest memory anew from here on, where the system can."""
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


LAP = "lap"  # key of a line that tells one


def tell_lap(lap: Lap) -> None:
    """Print a lap as `in_own_process` reads it."""
    print(json.dumps({LAP: lap._asdict()}), flush=True)


def in_own_process(module: str, *words: object, told: Told = untold) -> dict[str, Any]:
    """Run `python -m MODULE WORDS` and return the JSON of its last line, so that its peak is its own. Laps
    that it prints before (`tell_lap`) are told as they end. Raises ScxError with its last words when it fails
    or is killed."""
    command, found = [sys.executable, "-m", module, *map(str, words)], dict[str, Any]()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:
            assert process.stdout is not None  # a pipe was asked for
            for line in process.stdout:
                if line.startswith("{"):  # libraries may print too
                    found = json.loads(line)
                    if LAP in found:
                        told(Lap(**found[LAP]))
        said.seek(0)
        lines = said.read().strip().splitlines()
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        why = ", perhaps for want of memory" if name == "SIGKILL" else ""
        raise ScxError(f"Ended by {name}{why}.", "Run it alone, or with smaller sizes.")
    if process.returncode or not found or LAP in found:
        raise ScxError(lines[-1][:300] if lines else f"Exit code {process.returncode}, and no words.")
    return found


def benchmark_file(name: str) -> Path:
    """A file of the folder `benchmarks`, which stands beside the package in a checkout. Raises ScxError where
    the package is installed without it."""
    path = Path(scx_core.__file__).resolve().parent.parent / "benchmarks" / name
    if not path.is_file():
        raise ScxError(
            f"This benchmark is not part of the installed package: there is no {path}.",
            "Run it from a checkout of the repository.",
        )
    return path
