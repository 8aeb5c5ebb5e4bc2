"""A whole atlas as input: opened, described, split by donor, written as tokens, trained on, resumed by two.

Each step is a process of its own, so that its peak memory is nobody else's; its seconds are those of its
processor and of the clock, imports left out. The file is made up (`atlas_file`), the training of few steps.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.bench.atlas_file import AtlasShape, write_atlas
from scx_core.bench.machine import machine, peak_gib
from scx_core.cells import CellTable, cell_map, genes_per_cell, open_cells, split_cells
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.runs import Progress, RunFolder, read_json, silent
from scx_core.runs.jobs import child_environment
from scx_core.sentences import ties_of
from scx_core.training import train
from scx_core.training.config import PRESETS, TrainConfig, TrainingJob
from scx_core.training.processes.distributed import team
from scx_core.training.tokens import cached_texts
from scx_core.training.train import new_run

HEART_SIZED, STEPS = AtlasShape(704_000), 6
BYTES_A_VALUE = 6.1  # of the file
CHILD = "import sys; from scx_core.bench.atlas_input import tell; tell(*sys.argv[1:])"
MODULE = "scx_core.bench.atlas_input"

Row = dict[str, Any]


def bench_atlas_input(
    folder: Path,
    model: str = "embedded",
    shape: AtlasShape = HEART_SIZED,
    processes: int = 2,
    steps: int = STEPS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make a file of this shape in `folder` and take it all the way: a row a step, with seconds and peaks.

    Raises ScxError when the disk is too small, or a step fails.
    """
    wanted = shape.n_cells * (shape.detected * BYTES_A_VALUE + 3000)  # and tokens, and the run
    if shutil.disk_usage(folder).free < wanted:
        raise ScxError(
            f"{folder} has less than the {wanted / 1e9:.1f} GB left that such an atlas takes.",
            "Set TMPDIR to a folder that has them, or make a smaller one (--cells).",
        )
    lm, data = load_language(model, "cpu"), folder / "atlas.h5ad"
    rows: list[Row] = []
    try:
        with _measured("the file is made") as row:
            # the genes that the embedded model knows, so that its sentences are not of made-up names alone
            known = open_cells("embedded").symbols.tolist() if model == "embedded" else ()
            write_atlas(data, shape, lm.labels or (), known, progress=progress)
        rows.append(row)
        for number, stage in enumerate(("open", "tokens", "train")):
            progress(number, 4, stage)
            rows += _child(["-c", CHILD, stage, str(folder), model, str(steps)])
        progress(3, 4, f"resumed by {processes} processes")
        rows += _resumed(folder, processes)
        size = data.stat().st_size
    finally:
        data.unlink(missing_ok=True)
    return {
        "machine": machine(),
        "atlas_input": rows,
        "cells": shape.n_cells,
        "genes": shape.n_genes,
        "detected": shape.detected,
        "file_gb": size / 1e9,
        "processes": processes,
    }


def _child(words: list[str], environment: dict[str, str] | None = None) -> list[Row]:
    """The rows that a Python process prints, one a line."""
    done = subprocess.run(
        [sys.executable, *words],
        env=child_environment() | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ScxError(f"A step failed: {done.stderr[-800:]}", "See what it says.")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"what"')]


def _resumed(folder: Path, processes: int) -> list[Row]:
    """The run that one process began, ended by several."""
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", MODULE]
    rows = _child([*words, str(folder)], {"OMP_NUM_THREADS": "1"})
    if (run := RunFolder.open(folder / "run")).status().state != "done":
        raise ScxError(f"The resumed training is {run.status().state}.", "See its folder.")
    return sorted(rows, key=lambda row: str(row["what"]))


@contextmanager
def _measured(what: str) -> Iterator[Row]:
    """A row with the seconds of the clock and the processor that the inside took, and the peak so far."""
    row: Row = {"what": what}
    clock, processor = time.perf_counter(), time.process_time()
    yield row
    row["seconds"], row["cpu_seconds"] = time.perf_counter() - clock, time.process_time() - processor
    row["peak_gib"] = peak_gib()


def tell(stage: str, folder: str, model: str, steps: str) -> None:
    """The work of one process: a JSON line a row."""
    {"open": _open, "tokens": _tokens, "train": _train}[stage](Path(folder), model, int(steps))


def _print(row: Row) -> None:
    print(json.dumps(row), flush=True)


def _open(folder: Path, model: str, steps: int) -> None:
    """Opened and described, split, and the figures of the page Data."""
    with _measured("opened and described") as row:
        table = open_cells(folder / "atlas.h5ad")
    _print(row | {"findings": len(table.findings)})
    with _measured("split by donor") as row:
        split = split_cells(table, by="donor", choose=0.05)
    _print(row | {"cells": len(split.train)})
    jobs: dict[str, Callable[[], Any]] = {
        "cells of each type": table.cells_per_type,
        "genes a cell": lambda: genes_per_cell(table),
        "share that ties decide": lambda: ties_of(table, np.arange(table.n_cells), 200),
        "the file's map": lambda: cell_map(table),
    }
    with _measured(f"page Data: {', '.join(jobs)}") as row:
        for job in jobs.values():
            job()
    _print(row)


def _run(folder: Path, model: str, steps: int) -> tuple[RunFolder, TrainingJob, Any, CellTable]:
    """The run, new or as it is, with its model and cells."""
    lm, table = load_language(model, "cpu"), open_cells(folder / "atlas.h5ad")
    if (folder / "run").exists():
        run = RunFolder.open(folder / "run")
        return run, TrainingJob(lm.sentence_config), lm, table
    quick = PRESETS["quick"]
    config = TrainConfig(
        steps=steps, warmup=2, cells_per_batch=8, split_by="donor", evaluate_every=steps, evaluate_cells=8,
        log_every=1, checkpoint_every=steps, calibration_cells=32,
    )  # fmt: skip
    data = str(folder / "atlas.h5ad")
    job = TrainingJob(lm.sentence_config, model, data, "cpu", transcoder=quick.transcoder, train=config)
    return new_run(folder, job, lm, table, "run"), job, lm, table


def _tokens(folder: Path, model: str, steps: int) -> None:
    """All training cells as tokens, in the cache of the run, which then finds them there."""
    run, job, lm, table = _run(folder, model, steps)
    rows = np.asarray(read_json(run.path / "split.json")["train"])
    with _measured("written as tokens") as row:
        texts = cached_texts(run.path / "tokens", lm, table, rows, job.sentences)
    speed = len(rows) / row["cpu_seconds"]
    _print(row | {"cells": len(rows), "cells_per_cpu_second": speed, "tokens": len(texts.ids)})


def _train(folder: Path, model: str, steps: int) -> None:
    """Half of the steps; then it is asked to stop, as by a person, and does after the next."""
    run, _, lm, table = _run(folder, model, steps)

    def stop(done: int, total: int, message: str) -> None:
        if message == "training" and done == steps // 2:
            signal.raise_signal(signal.SIGTERM)

    with _measured("trained, and stopped") as row:
        train(run, lm, table, stop)
    _print(row | {"steps": run.status().done})


def _go_on(folder: Path) -> None:
    """The work of one of several: the run to its end."""
    with team("cpu") as members:
        run, _, lm, table = _run(folder, RunFolder.open(folder / "run").config["model"], 0)
        with _measured(f"resumed and ended, process {members.rank + 1} of {members.size}") as row:
            train(run, lm, table, team=members)
        _print(row | {"steps": RunFolder.open(run.path).status().done})


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _go_on(Path(sys.argv[1]))
