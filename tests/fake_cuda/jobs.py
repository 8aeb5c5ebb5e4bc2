"""Every job of the command line at its smallest, on a tiny random model: what runs on the fake card, and how.

Each entry of JOBS is made from the files of a `Desk`; `python tests/fake_cuda/jobs.py [NAME ...]` runs them and prints
what each costs on a card (launches, waits for the card, uploads, bytes to the host).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import fake_device
import numpy as np
import pandas as pd
import torch

from scx_core.cli import main
from tests.tiny import save_tiny, tiny_table

N_CELLS, NODES = 60, ("--nodes", "12")
SHORT = (
    "--steps 4 --evaluate-every 2 --checkpoint-every 2 --k 4 --warmup 1 --evaluate-cells 3 --calibration-cells 6 "
    "--cells-per-batch 4 --dead-after 60"
).split()
SHORTER = [*SHORT, "--finetune-steps", "0"]
TINY_BUILD = (
    "--width 16 --layers 2 --heads 2 --batch 4 --readings 16 --transcoder-steps 2 --measured-cells 4 --presets "
    "quick --no-atlas --cells 2 --accuracy-cells 2 --nodes 8 --n-genes 8"
).split()


class Desk(NamedTuple):
    """Where a round of jobs finds its files: cells, a model, and what earlier jobs wrote."""

    root: Path
    device: str = "cuda"
    sets: Path | None = None

    @property
    def data(self) -> list[str]:
        """Cells of five types from four donors in two conditions."""
        return ["--data", str(self.root / "cells.h5ad")]

    @property
    def model(self) -> list[str]:
        """The tiny model, on the card."""
        return ["--model", str(self.root / "model"), "--device", self.device]

    @property
    def runs(self) -> list[str]:
        """Folder of all runs."""
        return ["--runs", str(self.root / "runs")]

    def coders(self, name: str = "first") -> str:
        """The set that a training left."""
        return str((self.sets or self.root / "runs") / name / "transcoders")

    @property
    def all(self) -> list[str]:
        """What a command that traces reads."""
        return [*self.data, *self.model, "--transcoders", self.coders()]

    def path(self, name: str) -> str:
        """A file or folder of this round."""
        return str(self.root / name)


def make_desk(root: Path, device: str = "cuda") -> Desk:
    """Write cells, model and small tables."""
    import anndata

    table = tiny_table(N_CELLS)
    names = pd.Index([f"cell-{row}" for row in range(N_CELLS)])
    obs = pd.DataFrame({"cell_type": table.labels.astype(str)}, index=names)
    obs["donor"] = [f"donor{row % 4}" for row in range(N_CELLS)]
    obs["state"] = [("rest", "stimulated")[row // 5 % 2] for row in range(N_CELLS)]
    obs["target"] = np.where(np.arange(N_CELLS) % 3 == 0, "control", "CD74")
    var = pd.DataFrame(index=pd.Index(table.symbols.astype(str)))
    anndata.AnnData(table.values, obs, var).write_h5ad(root / "cells.h5ad")
    save_tiny(root / "model")
    (root / "sets.gmt").write_text("one\tx\tCD79A\tCD79B\tMS4A1\tCD74\ntwo\tx\tLYZ\tS100A8\tS100A9\tCST3\n")
    edges = [("CD79A", "CD79B"), ("LYZ", "S100A8"), ("CD74", "HLA-DRA"), ("CD3D", "CD3E")]
    (root / "edges.tsv").write_text("".join(f"{a}\t{b}\tActivation\t1\n" for a, b in edges))
    return Desk(root, device)


def _training(name: str, *more: str) -> Callable[[Desk], list[str]]:
    return lambda d: ["train", *d.data, *d.model, *SHORTER, *d.runs, "--name", name, *more]


def _traced(*words: str, more: tuple[str, ...] = NODES) -> Callable[[Desk], list[str]]:
    return lambda d: [*words, *d.all, *more]


def _asked(question: str, *more: str, cached: bool = True) -> Callable[[Desk], list[str]]:
    return lambda d: ["evidence", question, *d.all, *more, *(d.runs if cached else [])]


# As few as each question takes: what an operation needs is the same for two cells as for twenty.
FEW_CELLS = ("--circuit-cells", "2", "--measured", "2", "--reference-cells", "2", "--draws", "2")
FEW_RIVALS = (
    "--search-cells 2 --gradient-cells 2 --unseen-cells 2 --reference-cells 2 --knocked 2 --genes 2 --fit-cells 8 "
    "--atlas-cells 20 --test-cells 4 --types 1"
).split()
OTHER_PROMPT = "Genes of a {organism} cell: {cell_sentence}. It is:"
TYPE, OTHER = "CD19+ B", "Dendritic"
PARTED_LATE = "CD4+/CD25 T Reg"  # no one token parts it from CD4+/CD45RO+ Memory: a whole answer is explained
TWO_TYPES = ("--type", TYPE, "--other", OTHER)
# Training comes first: the others read its set. `export` and what reads an atlas come behind what they need.
JOBS: dict[str, Callable[[Desk], list[str]]] = {
    "train": lambda d: [
        *["train", *d.data, *d.model, *SHORT, "--finetune-steps", "2", *d.runs, "--name", "first"]
    ],
    "train topk skip": _training("topk", "--kind", "topk", "--skip"),
    "train relu": _training("relu", "--kind", "relu"),
    "train jumprelu": _training("jumprelu", "--kind", "jumprelu"),
    "train saes": _training("saes", "--reads", "output", "--no-skip"),
    "train cross-layer": _training("cross", "--writes", "later"),
    "train micro": lambda d: [
        *["train", *d.data, *d.model, *SHORT, "--micro-batch-cells", "2", "--finetune-steps", "1"],
        *[*d.runs, "--name", "micro"],
    ],
    "train resumed": lambda d: ["train", "--run", d.path("runs/micro")],
    "validate": lambda d: ["validate", *d.all, "--cells", "4"],
    "compare": lambda d: ["compare", d.path("runs/first"), d.path("runs/topk"), *d.runs],
    "trace": _traced("trace", more=(*NODES, "--cell", "1")),
    "trace answer": _traced("trace", more=(*NODES, "--target", "answer", "--choice", "effect")),
    "trace feature": _traced("trace", more=(*NODES, "--feature", "1:3")),
    "trace knock-outs": _traced("trace", more=(*NODES, "--knockouts")),
    "trace estimates": _traced("trace", more=(*NODES, "--knockouts", "--estimate")),
    "consensus": _traced("circuit", more=(*NODES, "--cells", "3", "--steps")),
    "two steps": _traced("circuit", more=(*NODES, "--cells", "3", "--method", "two-steps")),
    "difference in two steps": _traced(
        "difference", more=(*NODES, "--cells", "2", *TWO_TYPES, "--method", "two-steps")
    ),
    "prompts": _traced(
        "circuit", more=(*NODES, "--cells", "2", "--prompts", "scx", "--prompts", OTHER_PROMPT)
    ),
    "difference": _traced("difference", more=(*NODES, "--cells", "2", *TWO_TYPES)),
    "difference of sets": lambda d: [
        *["difference", *d.all, *NODES, "--cells", "2", "--type", TYPE],
        *["--other-transcoders", d.coders("topk")],
    ],
    "heads": _traced("heads"),
    "paths": _traced("paths", more=()),
    "connections": _traced("connections", "1:3", more=()),
    "smallest": _traced(
        "smallest",
        more=("--search-cells", "2", "--unseen-cells", "2", "--gradient-cells", "2", "--nodes", "8"),
    ),
    "knock-outs": _traced("knockouts", more=("--genes", "CD79A", "LYZ")),
    "attributions": _traced("attributions", more=("--cells", "4", "--type", TYPE)),
    "rankings": _traced(
        "rankings",
        more=(
            *("--cells", "2", "--measured", "2", "--least", "4", "--genes", "2", "--draws", "2"),
            *("--type", OTHER, "--type", PARTED_LATE),
        ),
    ),
    "claims": _traced("claims", more=()),
    "share": lambda d: ["share", *d.all, *d.runs, "--cells", "2", "--type", TYPE, "-o", d.path("share.html")],
    "curves": _asked("curves", "--type", TYPE, *FEW_CELLS, "--growth", "8"),
    "genes": _asked("genes", "--genes", "CD79A", "LYZ", "--cells", "2", "--draws", "2"),
    "nulls": _asked("nulls", "--repeats", "10", "--sets", "3", "--cells", "4", cached=False),
    "redundancy": _asked(
        "redundancy", "--type", TYPE, *FEW_CELLS, "--top", "2", "--genes", "2", "--risen", "2"
    ),
    "rivals": _asked("rivals", *FEW_RIVALS, cached=False),
    "stability": _asked(
        "stability",
        "--cells",
        "4",
        "--splits",
        "1",
        "--ties",
        "1",
        "--resamples",
        "20",
        "--draws",
        "20",
        "--nodes",
        "8",
        "--matched-on",
        "10",
        cached=False,
    ),
    "steer": _asked("steer", "--features", "1:3", "0:4", *FEW_CELLS),
    "ablate": _asked("steer", "--features", "1:3", "0:4", "--mode", "ablate", *FEW_CELLS),
    "patch": _asked("steer", "--features", "1:3", "0:4", "--mode", "patch", *FEW_CELLS),
    "types": _asked(
        "types",
        "--types",
        "1",
        "--cells",
        "2",
        "--measured",
        "2",
        "--knocked",
        "2",
        "--varied",
        "2",
        "--least",
        "6",
        "--genes",
        "2",
        "--draws",
        "2",
    ),
    "conditions": lambda d: [
        *["evidence", "conditions", *d.all, "--column", "state", "--reference", "rest", "--condition"],
        *["stimulated", "--sets", d.path("sets.gmt"), "--set", "one", "--cells", "4"],
    ],
    "network": lambda d: [
        *["evidence", "network", *d.all, "--edges", d.path("edges.tsv"), "--feature-cells", "10"],
        *["--circuit-cells", "2", "--cells", "30", "--rewirings", "20", "--graph-rewirings", "20", *d.runs],
    ],
    "perturbations": lambda d: [
        *["evidence", "perturbations", *d.data, *d.model, "--target-column", "target"],
        *["--control", "control", "--least", "2", "--cells", "2", "--shuffles", "100", *d.runs],
    ],
    "atlas": lambda d: [
        *["atlas", *d.all, "--out", d.path("atlas")],
        *["--cells", "30", "--context", "4", "--random", "1"],
    ],
    "sets": lambda d: ["sets", "--atlas", d.path("atlas"), "--sets", d.path("sets.gmt")],
    "match": lambda d: ["match", d.coders(), d.coders("topk"), *d.data, *d.model, "--tokens", "5"],
    "annotate": lambda d: ["annotate", *d.all, "--atlas", d.path("atlas"), "--out", d.path("new.h5ad")],
    "annotate alone": lambda d: ["annotate", *d.all, "--feature", "1:3", "--out", d.path("some.h5ad")],
    "export": _traced("export", more=(*NODES, "--cells", "2", "--formats", "json,html,csv")),
    "transcoders out": lambda d: [
        *["transcoders", "export", d.coders(), "--layout", "saelens", "--out", d.path("peer")],
        *[*d.data, *d.model],
    ],
    "transcoders in": lambda d: [
        *["transcoders", "import", d.path("peer"), "--layout", "saelens", "--calibrate", "4"],
        *["--out", d.path("back"), *d.data, *d.model],
    ],
    "build": lambda d: [
        *["demo", "build", *d.data, "--device", d.device, *TINY_BUILD, *d.runs, "--name", "built"]
    ],
}


class JobFailed(AssertionError):
    """A command that did not end with 0."""


def run_job(desk: Desk, name: str) -> None:
    """One command in this process. What it raises is not caught, so a fault of the device ends it."""
    words = [*JOBS[name](desk), "--quiet", "--json", desk.path("result.json")]
    said = io.StringIO()
    kept = mock.patch.dict(os.environ, {"SCX_RUNS": desk.path("runs")})
    with kept, contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    if code:
        raise JobFailed(f"{' '.join(words)}: {code}\n{said.getvalue()}")


@contextlib.contextmanager
def card(dtype: str = "float32", strict: bool = True, **options: Any) -> Iterator[fake_device.Report]:
    """The fake card; with `dtype` bfloat16 every model counts as one that is too large to be held in float32."""
    import scx_core.language.loading as loading

    limit, threads = loading.FLOAT32_LIMIT if dtype == "float32" else 0, torch.get_num_threads()
    torch.set_num_threads(1)  # operations this small would only wait for each other
    with (
        mock.patch.object(loading, "FLOAT32_LIMIT", limit),
        mock.patch.object(loading, "FLOAT32_SHARE", 0.0),
        fake_device.gpu(ROOT, strict=strict, **options) as report,
    ):
        try:
            yield report
        finally:
            torch.set_num_threads(threads)


def costs(report: fake_device.Report) -> dict[str, int]:
    """What a job cost."""
    return {name: getattr(report, name).total() for name in fake_device.COUNTED}


if __name__ == "__main__":
    import tempfile
    import time
    import traceback

    here = make_desk(Path(tempfile.mkdtemp()))
    asked = [word for word in sys.argv[1:] if not word.startswith("-")]
    for job in JOBS:
        if asked and job not in asked and job not in ("train", "train topk skip"):
            continue
        since = time.process_time()
        with card("bfloat16" if "--bfloat16" in sys.argv else "float32", strict=False) as seen:
            try:
                run_job(here, job)
            except Exception:
                traceback.print_exc(limit=-4, file=sys.stdout)
        print(f"{job}: {time.process_time() - since:.1f} s, {costs(seen)}", flush=True)
        for fault, times in sorted(seen.faults.items()):
            print("   fault", *fault, f"×{times}", flush=True)
