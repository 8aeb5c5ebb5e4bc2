"""What each job takes on a model of Pythia-410m's dimensions with random weights: seconds and memory.

Every job runs in a process of its own, so that its peak is its own. Processor seconds (user and system, of
all threads) are what to compare on a machine that does other work; wall seconds are right on an idle one.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scx_core.bench.machine import machine, peak_gib
from scx_core.bench.tracing import random_model, random_set
from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.environment import prepare_process
from scx_core.errors import ScxError
from scx_core.language import EMBEDDED, Language, fast_attention, load_language, mlp_io
from scx_core.runs import Progress, silent
from scx_core.sentences import pad_left
from scx_core.training import train
from scx_core.training.config import PRESETS, TrainingJob
from scx_core.training.finetune import FineTune
from scx_core.training.tokens import encode_texts
from scx_core.training.train import new_run
from scx_core.transcoders import load_set
from scx_core.validation import validate, validation_rows, validation_work

STEPS, FEW = 3, 2  # of the training, and cells of a step, of a measurement, of a calibration
TEST_CELLS, READ_CELLS = 16, 8
MODEL, SET = "model", "transcoders"


class Stages:
    """Wall and processor seconds of what follows one another, by name."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._name, self._since = "", (0.0, 0.0)

    def begin(self, name: str) -> None:
        """What has run until now is over, and this begins."""
        now = time.perf_counter(), _processor()
        if self._name:
            wall, cpu = (b - a for a, b in zip(self._since, now, strict=True))
            self.rows.append({"what": self._name, "wall_s": wall, "cpu_s": cpu})
        self._name, self._since = name, now

    def end(self) -> list[dict[str, Any]]:
        """All of them."""
        self.begin("")
        return self.rows


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def training(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx train --preset quick --steps 3 --cells-per-batch 2 --evaluate-cells 2 --calibration-cells 2`."""
    preset = PRESETS["quick"]
    job = TrainingJob(
        lm.sentence_config,
        model=str(folder / MODEL),
        transcoder=preset.transcoder,
        train=replace(
            preset.train, steps=STEPS, cells_per_batch=FEW, evaluate_cells=FEW, calibration_cells=FEW
        ),
    )
    seen = ""

    def progress(done: int, _total: int, message: str) -> None:
        nonlocal seen
        if message == "training":
            message = f"step {done + 1}" if done < STEPS else "checkpoint"
        if message != seen:
            seen = message
            stages.begin({"first weights: layers": "first weights, and step 1"}.get(message, message))

    with tempfile.TemporaryDirectory(dir=folder) as runs:
        made = train(new_run(runs, job, lm, table), lm, table, progress)
    assert made is not None  # nobody asked it to stop
    return {"measured cells": made.meta["metrics"]["cells"], "tokens": made.meta["metrics"]["tokens"]}


def tuning(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """Two steps of all layers together, on as many cells as the training above has in a step."""
    coders = load_set(folder / SET, lm.device, lm.dtype)
    texts = encode_texts(lm, table, np.arange(FEW), lm.sentence_config)
    with fast_attention(lm):
        stages.begin("weights and moments")
        tune = FineTune(lm, coders, 1e-3)
        for step in (1, 2):
            stages.begin(f"step {step} of all layers together")
            tune.step(texts, range(FEW), 1.0)
    return {"tokens": len(texts.ids)}


def validating(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx validate --cells 16`, with what was said before."""
    coders = load_set(folder / SET, lm.device, lm.dtype)
    rows = validation_rows(lm, coders, table, TEST_CELLS)
    stages.begin("estimate")
    told = validation_work(lm, coders, table, rows.test, fit=rows.train)
    seen = ""

    def progress(_done: int, _total: int, message: str) -> None:
        nonlocal seen
        if message != seen:
            seen = message
            stages.begin(f"then: {message}")

    stages.begin("until the first batch is through")
    found = validate(lm, coders, table, rows.test, train_rows=rows.train, progress=progress)
    return {
        "told_s": told.seconds,
        "told": told.words(),
        "cells": found.n_cells,
        "layer_cells": found.layer_cells,
        "fit_cells": found.fit_cells,
    }


def writing(_folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """All cells' sentences as tokens."""
    stages.begin("sentences of all cells")
    texts = encode_texts(lm, table, np.arange(table.n_cells), lm.sentence_config)
    return {"cells": texts.n_cells, "tokens": len(texts.ids)}


def reading(_folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """What every MLP reads and writes in some cells, held at once."""
    texts = encode_texts(lm, table, np.arange(READ_CELLS), lm.sentence_config)
    cells = [texts.ids[a:b].tolist() for a, b in zip(texts.start, texts.start[1:], strict=False)]
    padded = pad_left(cells, lm.pad_id)
    stages.begin(f"activations of {READ_CELLS} cells")
    with fast_attention(lm):
        mlp_io(lm, torch.from_numpy(padded.ids_BT), torch.from_numpy(padded.mask_BT))
    return {"cells": READ_CELLS, "tokens": len(texts.ids)}


Job = Callable[[Path, Language, CellTable, Stages], dict[str, Any]]
JOBS: dict[str, Job] = {
    "sentences": writing,
    "activations": reading,
    "train": training,
    "tune": tuning,
    "validate": validating,
}


def bench_jobs(
    folder: Path, table: CellTable, only: list[str] | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Write the model and a random set into `folder` where they are not there, and run the jobs (`only`: some
    of `JOBS`) one after another. Raises ScxError with the last words of one that fails."""
    wanted = only or list(JOBS)
    if unknown := [name for name in wanted if name not in JOBS]:
        raise ScxError(f"{unknown[0]!r} is none of these jobs.", f"Choose among: {', '.join(JOBS)}.")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SET / "config.yaml").exists():
        progress(0, len(wanted), "writing the model")
        random_model(folder / MODEL, load_language(EMBEDDED, "cpu").tokenizer, table.types)
        random_set(folder / SET)
    rows = []
    for done, name in enumerate(wanted):
        progress(done, len(wanted), name)
        command = [sys.executable, "-m", "scx_core.bench.real_size", name, str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ScxError(f"{name} did not run: {ran.stderr.strip().splitlines()[-1:]}", "See the message.")
        rows.append(json.loads(ran.stdout.strip().splitlines()[-1]))
    progress(len(wanted), len(wanted), "done")
    return {"machine": machine(), "jobs": rows}


def main(name: str, folder: Path) -> None:
    """One job in this process; prints its figures as a line of JSON."""
    stages = Stages()
    stages.begin("open model and cells")
    lm, table = load_language(folder / MODEL, "cpu"), open_cells("embedded", CellChoices())
    found = JOBS[name](folder, lm, table, stages)
    print(json.dumps({"job": name, "stages": stages.end(), "peak_gib": peak_gib(), **found}))


if __name__ == "__main__":
    prepare_process()
    main(sys.argv[1], Path(sys.argv[2]))
