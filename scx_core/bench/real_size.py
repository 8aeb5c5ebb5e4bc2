"""What each job takes on a model of Pythia-410m's dimensions with random weights: seconds and memory.

Every job runs in a process of its own, so that its peak is its own, on a model that another process wrote.
Processor seconds (user and system, of all threads) are what to compare on a machine that does other work;
wall seconds are right on an idle one. Cells are few and prompts whole (114 genes, 450 tokens or so): what a
cell needs is what it needs among many, what is kept for each of many cells is not in a peak.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from scx_core.atlas import Atlas, AtlasConfig, MatchConfig, Side, make_atlas, match_sets
from scx_core.bench.machine import Stopwatch, Told, in_own_process, machine, tell_lap, untold
from scx_core.bench.random_410m.made_model import ATLAS, MODEL, OTHER_SET, SET, write_apart
from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.circuits import Tracer, make_tracer
from scx_core.environment import prepare_process
from scx_core.errors import ScxError
from scx_core.evidence.curves import CurvesConfig, curves_of
from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of
from scx_core.evidence.smallest.circuit_search import SearchConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest
from scx_core.language import EMBEDDED, Language, fast_attention, load_language, mlp_io
from scx_core.runs import Progress, silent
from scx_core.sentences import pad_left
from scx_core.share import ShareConfig, gather, write_share
from scx_core.training import train
from scx_core.training.config import PRESETS, TrainingJob
from scx_core.training.finetune import FineTune
from scx_core.training.tokens import encode_texts
from scx_core.training.train import new_run
from scx_core.transcoders import load_set
from scx_core.validation import validate, validation_rows, validation_work

STEPS, FEW = 3, 2  # of the training, and cells of a step, of a measurement, of a calibration
TEST_CELLS, READ_CELLS = 16, 8


class Stages:
    """Laps of what follows one another, by name; each is told as it ends."""

    def __init__(self, told: Told = untold) -> None:
        self._watch, self._name = Stopwatch(torch.device("cpu"), told), ""

    def begin(self, name: str) -> None:
        """What has run until now is over, and this begins."""
        if self._name:
            self._watch.lap(self._name)
        self._name = name

    def follow(self, _done: int, _total: int, message: str = "") -> None:
        """A job's own words, without how long it will take: each new one is a stage."""
        name = message.partition(", about ")[0]
        if name and name != self._name:
            self.begin(name)

    def end(self) -> dict[str, Any]:
        """All of them, and the largest of their peaks."""
        self.begin("")
        rows = [lap._asdict() for lap in self._watch.laps]
        return {"stages": rows, "peak_gib": self._watch.peak_gib()}


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


def searching(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx smallest --search-cells 2 --gradient-cells 1 --unseen-cells 2 --reference-cells 9 --nodes 64
    --draws 1 --exchanges 1 --proposals 1`."""
    cfg = SmallestConfig(
        search_cells=FEW, gradient_cells=1, unseen_cells=FEW, reference_cells=9, nodes=NODES, draws=1
    )
    tracer = _tracer(folder, lm, table)
    search = SearchConfig(exchanges=1, proposals=1)
    found = smallest(tracer, table.types[0], cfg=cfg, search=search, progress=stages.follow)
    return {"cells": FEW, "unseen": FEW, "tokens": _tokens(tracer), "features found": len(found.nodes)}


def ranking(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx rankings --type TYPE --cells 2 --measured 2 --draws 1`, of the first type."""
    cfg = RankingConfig(cells=FEW, measured=FEW, draws=1)
    tracer = _tracer(folder, lm, table)
    found = rank_genes_of(tracer, [table.types[0]], cfg, stages.follow).types[0]
    return {"cells": found.n_traced, "measured": found.n, "tokens": _tokens(tracer)}


def evidence(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx evidence curves --circuit-cells 2 --measured 2 --reference-cells 9 --growth 100 --draws 2
    --orders 0`."""
    cfg = CurvesConfig(circuit_cells=FEW, measured=FEW, reference_cells=9, growth=100.0, draws=2, orders=0)
    tracer = _tracer(folder, lm, table)
    found = curves_of(tracer, table.types[0], cfg=cfg, progress=stages.follow)
    return {"cells": FEW, "measured": found.n, "tokens": _tokens(tracer), "features": found.n_circuit}


def sharing(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx share --type TYPE --cells 2 --atlas FOLDER`, with an atlas of random numbers of all features."""
    cfg, tracer = ShareConfig(cells=FEW), _tracer(folder, lm, table)
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        atlas = Atlas.open(folder / ATLAS)
        shared = gather(tracer, [table.types[0]], cfg, root=Path(runs), atlas=atlas, progress=stages.follow)
        stages.begin("the file")
        path = write_share(shared, Path(runs) / "share.html", cfg)
        size = path.stat().st_size
    return {"cells": FEW, "tokens": _tokens(tracer), "features": cfg.features, "file MB": size / 1e6}


def collecting(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx atlas --cells 8 --context 2 --random 1`."""
    cfg = AtlasConfig(cells=READ_CELLS, context=FEW, random=1)
    coders = load_set(folder / SET, lm.device, lm.dtype)
    stages.begin("thresholds of the baselines, and genes of the first cell exchanged")
    made = make_atlas(lm, coders, table, cfg=cfg, progress=stages.follow)
    stages.begin("the folder")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made.save(Path(place) / "atlas")
    return {"cells": made.meta["n_cells"], "tokens": made.meta["n_tokens"]}


def matching(folder: Path, lm: Language, table: CellTable, stages: Stages) -> dict[str, Any]:
    """`scx match SET OTHER_SET --cells 2 --tokens 2`."""
    one, other = (Side(lm, load_set(folder / name, lm.device, lm.dtype)) for name in (SET, OTHER_SET))
    cfg = MatchConfig(cells=FEW, tokens=2)
    found = match_sets(one, other, table, cfg=cfg, progress=stages.follow)
    return {"cells": FEW, "pairs": len(found.pairs)}


NODES = 64  # of a graph behind an influence cut


def _tracer(folder: Path, lm: Language, table: CellTable) -> Tracer:
    return make_tracer(lm, load_set(folder / SET, lm.device, lm.dtype), table)


def _tokens(tracer: Tracer) -> int:
    return len(tracer.encode([0])[0].ids)


Job = Callable[[Path, Language, CellTable, Stages], dict[str, Any]]
JOBS: dict[str, Job] = {
    "sentences": writing,
    "activations": reading,
    "train": training,
    "tune": tuning,
    "validate": validating,
    "smallest": searching,
    "rankings": ranking,
    "evidence": evidence,
    "share": sharing,
    "atlas": collecting,
    "match": matching,
}


WANTS = {"share": ATLAS, "match": OTHER_SET}  # beside the model and its set


def bench_jobs(
    folder: Path,
    table: CellTable,
    only: list[str] | None = None,
    progress: Progress = silent,
    told: Told = untold,
) -> dict[str, Any]:
    """Write the model and random sets into `folder` where they are not there, and run the jobs (`only`: some
    of `JOBS`) one after another. `told`: each stage as it ends. Raises ScxError with the last words of one
    that fails."""
    wanted = only or list(JOBS)
    if unknown := [name for name in wanted if name not in JOBS]:
        raise ScxError(f"{unknown[0]!r} is none of these jobs.", f"Choose among: {', '.join(JOBS)}.")
    progress(0, len(wanted), "writing the model")
    tokenizer = load_language(EMBEDDED, "cpu").tokenizer
    write_apart(folder, tokenizer, table.types, more=[WANTS[name] for name in wanted if name in WANTS])
    rows = []
    for done, name in enumerate(wanted):
        progress(done, len(wanted), name)
        try:
            rows.append(in_own_process("scx_core.bench.real_size", name, folder, told=told))
        except ScxError as error:
            raise ScxError(f"{name} did not run: {error.problem}", error.remedy) from None
    progress(len(wanted), len(wanted), "done")
    return {"machine": machine(), "jobs": rows}


def main(name: str, folder: Path) -> None:
    """One job in this process; prints its figures as a line of JSON."""
    stages = Stages(lambda lap: tell_lap(lap._replace(what=f"{name}: {lap.what}")))
    stages.begin("open model and cells")
    lm, table = load_language(folder / MODEL, "cpu"), open_cells("embedded", CellChoices())
    with mock.patch.dict("os.environ", {"SCX_RUNS": str(folder / "runs")}):  # nothing found, nothing left
        found = JOBS[name](folder, lm, table, stages)
    print(json.dumps({"job": name, **stages.end(), **found}))


if __name__ == "__main__":
    prepare_process()
    main(sys.argv[1], Path(sys.argv[2]))
