"""Kill a training at random moments, resume it each time, and see whether it ends with the same bits.

Each life of the training is a process of its own, which kills itself with SIGKILL: nothing of it runs any
more, as after a crash or a power cut. Every third moment lies inside the writing of a checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from scx_core.bench.machine import machine
from scx_core.cells import CellTable, open_cells
from scx_core.errors import ScxError
from scx_core.language import Language, load_language
from scx_core.runs import Progress, RunFolder, from_dict, sha256_of, silent
from scx_core.runs import checkpoints as checkpoint_files
from scx_core.runs.files import replace_atomic
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.train import new_run

Opener = Callable[[RunFolder], tuple[Language, CellTable]]

# Where in a write: half of the tensors are on disk; all of them, without their name; with it, but without
# the state that belongs to them.
PHASES = ("half", "written", "named")
OPENING = -1
OPENING_S, STEP_S = 0.5, 0.3  # longest delays: while it opens, and after a step
CODER = TranscoderConfig(skip=True)
TRAIN = TrainConfig(
    steps=60, finetune_steps=12, warmup=10, cells_per_batch=4, evaluate_every=30, evaluate_cells=2,
    log_every=3, checkpoint_every=5, calibration_cells=16,
)  # fmt: skip


class Moment(NamedTuple):
    """When to die: once `step` steps are done, `delay_s` later or in the next write of a checkpoint."""

    step: int
    delay_s: float
    phase: str = ""


class Killed(NamedTuple):
    """What came of it: kills that hit, those of them in a write, lives in all, and the run."""

    kills: int
    in_writes: int
    lives: int
    run: RunFolder


def moments(times: int, steps: int, seed: int) -> list[Moment]:
    """`times` moments over a training of `steps` steps, in order. One in ten comes before the first step."""
    chance = random.Random(seed)
    at = sorted(chance.randrange(steps - 1) for _ in range(times))
    found = []
    for number, step in enumerate(at):
        if number % 3 == 1:
            found.append(Moment(step, 0.0, PHASES[number // 3 % len(PHASES)]))
        elif number % 10 == 3:
            found.append(Moment(OPENING, chance.uniform(0, OPENING_S)))
        else:
            found.append(Moment(step, chance.uniform(0, STEP_S)))
    return found


def kill_and_resume(
    run: RunFolder, opener: Opener, times: int, seed: int = 0, progress: Progress = silent
) -> Killed:
    """Train `run` to its end through `times` deaths. `opener` opens its model and cells in the new process.

    Raises ScxError when a life ends by itself with an error.
    """
    steps = from_dict(TrainingJob, run.config).train.all_steps
    kills = in_writes = lives = 0
    for moment in [*moments(times, steps, seed), None]:
        code = _live(run.path, opener, moment)
        lives += 1
        if code == -signal.SIGKILL:
            kills += 1
            in_writes += bool(moment and moment.phase)
        elif code:
            raise ScxError(f"Life {lives} of the run {run.name} ended with {code}.", run.status().error)
        progress(lives, times + 1, "killed and resumed")
    return Killed(kills, in_writes, lives, run)


def same_result(one: RunFolder, other: RunFolder) -> bool:
    """Whether two runs made the same weights, bit for bit, and measured the same on their way."""

    def weights(run: RunFolder) -> dict[str, str]:
        files = sorted((run.path / "transcoders").glob("*.safetensors"))
        return {file.name: sha256_of(file) for file in files}

    def measured(run: RunFolder) -> list[dict[str, Any]]:
        clock = ("tokens_per_second", "seconds")
        return [{key: r[key] for key in r if key not in clock} for r in run.metrics()]

    return weights(one) == weights(other) and measured(one) == measured(other)


def bench_kills(folder: Path, times: int = 20, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """The embedded model's transcoders, a short training: unbroken, and with `times` kills."""
    job = TrainingJob(load_language("embedded").sentence_config, transcoder=CODER, train=TRAIN)
    unbroken, killed = (_new(folder, job, name) for name in ("unbroken", "killed"))
    since = time.perf_counter()
    if code := _live(unbroken.path, open_job, None):
        raise ScxError(f"The unbroken training ended with {code}.", unbroken.status().error)
    middle = time.perf_counter()
    found = kill_and_resume(killed, open_job, times, seed, progress)
    return {
        "kills": found.kills,
        "in_writes": found.in_writes,
        "lives": found.lives,
        "identical": same_result(unbroken, killed),
        "steps": job.train.all_steps,
        "seconds": {"unbroken": middle - since, "killed": time.perf_counter() - middle},
        "seed": seed,
        "machine": machine(),
    }


def open_job(run: RunFolder) -> tuple[Language, CellTable]:
    """Model and cells as the run names them."""
    job = from_dict(TrainingJob, run.config)
    return load_language(job.model, job.device), open_cells(job.data, job.cells)


def _new(folder: Path, job: TrainingJob, name: str) -> RunFolder:
    return new_run(folder, job, load_language(job.model), open_cells(job.data), name)


def _live(path: Path, opener: Opener, moment: Moment | None) -> int:
    """One life of the training, in a fresh process; its exit code (−9 when it was killed)."""
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        # The libraries are imported once, in a process that then only forks.
        context.set_forkserver_preload([__name__, "transformers.models.gpt_neox.modeling_gpt_neox"])
    process = context.Process(target=live, args=(path, opener, moment))
    process.start()
    process.join()
    return int(process.exitcode)


def live(path: Path, opener: Opener, moment: Moment | None) -> None:
    """Train until `moment`, or to the end."""
    run, armed = RunFolder.open(path), threading.Event()

    def arm(done: int, total: int, message: str) -> None:
        if moment and not armed.is_set() and message == "training" and done >= moment.step:
            armed.set()
            if not moment.phase:
                _die_in(moment.delay_s)

    if moment and moment.step == OPENING:
        armed.set()
        _die_in(moment.delay_s)
    phase = moment.phase if moment else ""
    with mock.patch.object(checkpoint_files, "replace_atomic", _deadly(phase, armed)):
        train(run, *opener(run), arm)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in(seconds: float) -> None:
    clock = threading.Timer(seconds, _die)
    clock.daemon = True
    clock.start()


def _deadly(phase: str, armed: threading.Event) -> Callable[..., None]:
    """`replace_atomic` that dies in the given phase once it is armed."""

    def replace(path: Path, write: Callable[[Path], Any], **options: Any) -> None:
        def write_and_die(temporary: Path) -> None:
            write(temporary)
            if phase == "half":
                os.truncate(temporary, temporary.stat().st_size // 2)
            _die()

        deadly = armed.is_set() and phase in PHASES[:2]
        replace_atomic(path, write_and_die if deadly else write, **options)
        if armed.is_set() and phase == PHASES[2]:
            _die()

    return replace
