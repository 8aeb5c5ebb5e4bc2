"""Peak memory of a training on a small file and on a ten times larger one: what grows with the cells.

The files are made up, the model is tiny and random; each training is a process of its own, so that its peak
is nobody else's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from scx_core.bench.machine import machine, peak_gib
from scx_core.build.recipe import RecipeConfig, new_model, train_tokenizer
from scx_core.cells import open_cells
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.runs import Progress, silent, write_json
from scx_core.runs.jobs import child_environment
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.train import new_run

CELLS, GENES, DETECTED = (20_000, 200_000), 30_000, 500
TYPES = tuple(f"Type {letter} cell" for letter in "ABCDEFGHIJ")
GENES_A_SENTENCE = 100
BLOCK = 2_000
TRAIN = TrainConfig(
    steps=6, warmup=2, cells_per_batch=8, evaluate_every=6, evaluate_cells=4, log_every=2,
    checkpoint_every=6, calibration_cells=16,
)  # fmt: skip
CHILD = "import sys; from benchmarks.memory import tell; tell(*sys.argv[1:])"


def gene_names() -> np.ndarray:
    """As many different names of a gene's look."""
    rng = np.random.default_rng(0)
    letters = rng.choice(list("ABCDEFGHIKLMNPRSTZ"), (GENES, 3))
    return np.array([f"{''.join(row)}{number}" for number, row in enumerate(letters)], dtype=object)


def write_cells(path: Path, n_cells: int, seed: int = 0) -> None:
    """An .h5ad file of random counts with labels, written block by block."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        labels = pd.Categorical.from_codes(rng.integers(0, len(TYPES), n_cells), TYPES)
        donors = pd.Categorical.from_codes(rng.integers(0, 8, n_cells), [f"donor {n}" for n in range(8)])
        names = [f"{rng.bytes(6).hex()}-{n}" for n in range(n_cells)]
        columns = {"cell_type": labels, "donor": donors, "depth": rng.random(n_cells)}
        write_elem(file, "obs", pd.DataFrame(columns, index=names))
        write_elem(file, "var", pd.DataFrame(index=pd.Index(gene_names())))
        group = file.create_group("X")
        shape = np.array([n_cells, GENES])
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        group["indptr"] = np.arange(n_cells + 1, dtype=np.int64) * DETECTED
        data = group.create_dataset("data", n_cells * DETECTED, "f4")
        indices = group.create_dataset("indices", n_cells * DETECTED, "i4")
        for start in range(0, n_cells, BLOCK):
            size = (min(start + BLOCK, n_cells) - start, DETECTED)
            steps = (
                rng.integers(1, GENES // DETECTED, size).cumsum(1) + rng.integers(0, GENES, size[0])[:, None]
            )
            part = slice(start * DETECTED, (start + size[0]) * DETECTED)
            indices[part] = np.sort(steps % GENES, axis=1).ravel()
            data[part] = (1 + rng.poisson(rng.gamma(0.4, 3.0, size))).ravel()


def write_model(folder: Path) -> None:
    """A tiny random model that reads these genes."""
    names = gene_names()
    texts = (" ".join(names[start : start + 500]) for start in range(0, 5000, 500))
    tokenizer = train_tokenizer(texts, 1000)
    new_model(RecipeConfig(width=32, layers=2, heads=2), len(tokenizer), 1024).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sentences = {"n_genes": GENES_A_SENTENCE, "tie_seed": 42, "prompt": "scx"}
    write_json(
        folder / "scx.json", {"name": "random", "labels": list(TYPES), "sentences": sentences, "lead": " "}
    )


def tell(folder: str, data: str, model: str) -> None:
    """Train a few steps on a file, and print seconds and peaks as JSON (the work of one process)."""
    began = time.perf_counter()
    lm, table = load_language(model, "cpu"), open_cells(data)
    found = {"cells": table.n_cells, "opened_s": time.perf_counter() - began, "opened_gib": peak_gib()}

    def note(done: int, total: int, message: str) -> None:
        if message == "training" and "first_step_s" not in found:
            found["first_step_s"] = time.perf_counter() - began

    coder = TranscoderConfig(expansion=4, k=8)
    job = TrainingJob(lm.sentence_config, model, data, "cpu", transcoder=coder, train=TRAIN)
    train(new_run(Path(folder), job, lm, table), lm, table, note)
    found |= {"all_s": time.perf_counter() - began, "peak_gib": peak_gib()}
    print(json.dumps(found))


def bench_memory(progress: Progress = silent) -> dict[str, Any]:
    """Peaks of both trainings, and their difference in MB. Needs 2 GB in the folder for temporary files.

    Raises ScxError when there is less, or a training fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < 2e9:
            raise ScxError(
                f"{folder.parent} has less than 2 GB left.", "Set TMPDIR to a folder that has them."
            )
        write_model(folder / "model")
        found: list[dict[str, Any]] = []
        for n_cells in CELLS:
            progress(len(found), len(CELLS), f"training on {n_cells:,} cells")
            data = folder / f"{n_cells}.h5ad"
            write_cells(data, n_cells)
            found.append(_child(folder / f"runs-{n_cells}", data, folder / "model"))
            found[-1]["file_gb"] = data.stat().st_size / 1e9
            data.unlink()
    difference = (found[1]["peak_gib"] - found[0]["peak_gib"]) * 2**30 / 1e6
    return {"machine": machine(), "memory": found, "difference_mb": difference}


def _child(runs: Path, data: Path, model: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", CHILD, str(runs), str(data), str(model)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScxError(f"The training on {data.name} failed: {done.stderr[-500:]}", "See what it says.")
    return json.loads(done.stdout.splitlines()[-1])
