"""What jobs are promised to take, and what they take: `python -m benchmarks.promised [KIND ...]`.

Each kind of task once, on the embedded default or on `--data`, as the app starts it, in an empty runs folder:
what was learned from earlier jobs plays no part. A promise should be right within a factor of 2 where nothing
else runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scx_core.atlas import MatchConfig
from scx_core.bench import machine
from scx_core.build import BuildConfig
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.evidence.rankings.rankings import RankingConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.runs import runs_root, to_dict
from scx_core.tasks import Opened, Sources, Task, estimates, launch_task
from scx_core.tasks.makers_of_training import training_trial, trial_task
from scx_core.tasks.task import table_task, tracer_task
from scx_core.training.config import PRESETS
from scx_core.transcoders import load_set
from scx_core.validation import validation_rows, validation_work


def tasks(tracer: Tracer, sources: Sources) -> dict[str, Callable[[], Task]]:
    """One task of each kind, with its promise."""
    sizes = tracer.table.cells_per_type()
    first, second = str(sizes.index[0]), str(sizes.index[1])

    def circuit(kind: str, seconds: float, cells: int, less: str | None = None) -> Task:
        asked = {"label": first, "answer": tracer.answer_for(first), "against": None, "row": None}
        asked |= {"less": less, "rows": None, "trace": to_dict(TraceConfig())}
        asked |= {"consensus": to_dict(ConsensusConfig(cells=cells))}
        return tracer_task(kind, kind, sources, tracer, asked)._replace(seconds=seconds)

    def smallest() -> Task:
        cfg = SmallestConfig()
        asked = {"label": first, "answer": tracer.answer_for(first), "against": None, "row": None}
        asked |= {"trace": to_dict(TraceConfig()), "cfg": to_dict(cfg)}
        made = tracer_task("smallest", "smallest", sources, tracer, asked)
        return made._replace(seconds=estimates.smallest_seconds(tracer, cfg, False))

    def rankings() -> Task:
        cfg = RankingConfig()
        asked = {"label": second, "cfg": to_dict(cfg)}
        made = tracer_task("rankings", "rankings", sources, tracer, asked)
        return made._replace(seconds=estimates.ranking_seconds(tracer, cfg))

    def validation() -> Task:
        lm, coders, table = tracer.lm, tracer.transcoders, tracer.table
        rows = validation_rows(lm, coders, table)
        work = validation_work(lm, coders, table, rows.test, fit=rows.train)
        parts = {"model": lm, "transcoders": coders}
        made = table_task("validation", "", sources, table, {"cells": len(rows.test)}, **parts)
        return made._replace(seconds=estimates.START + work.seconds)

    def cell_map() -> Task:
        made = table_task("map", "", sources, tracer.table, {"seed": 0})
        return made._replace(seconds=estimates.map_seconds(tracer.table.n_cells))

    def answers() -> Task:
        made = tracer_task("answers", "", sources, tracer, {"most": 20_000})
        return made._replace(seconds=estimates.answer_seconds(tracer, min(20_000, tracer.table.n_cells)))

    def match() -> Task:
        lm, coders, table = tracer.lm, tracer.transcoders, tracer.table
        other, cfg = load_set("embedded-paper", lm.device, lm.dtype), MatchConfig()
        asked = {"other": "embedded-paper", "fingerprint": other.fingerprint, "cfg": to_dict(cfg)}
        made = table_task("match", "", sources, table, asked, model=lm, transcoders=coders)
        return made._replace(seconds=estimates.match_seconds(lm, (coders, other), table, cfg.cells))

    def tried() -> Task:
        lm, preset = tracer.lm, PRESETS["recommended"]
        made = training_trial(sources, lm, preset.transcoder, preset.train, tracer.table.n_cells)
        seconds = estimates.training_trial_seconds(lm, preset.transcoder, preset.train)
        return made._replace(seconds=seconds)

    def build_tried() -> Task:
        n_genes = tracer.table.n_genes
        made = trial_task(BuildConfig(), str(tracer.lm.device), n_genes, tracer.table.n_cells)
        return made._replace(seconds=estimates.trial_seconds(BuildConfig(), n_genes))

    return {
        "circuit, 90 cells": lambda: circuit("circuit", estimates.circuit_seconds(tracer, 90), 90),
        "difference, 2 x 30": lambda: circuit(
            "circuit", estimates.circuit_seconds(tracer, 60, True), 30, second
        ),
        "knock-outs, 30 cells": lambda: circuit("knockouts", estimates.knockout_seconds(tracer, 30), 30),
        "smallest": smallest,
        "rankings": rankings,
        "validation": validation,
        "map": cell_map,
        "answers": answers,
        "match, 200 cells": match,
        "trial of a training": tried,
        "trial of a build": build_tried,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="beginnings of kinds (default: all)")
    parser.add_argument("--data", default="embedded")
    args = parser.parse_args()
    print(machine())
    sources = Sources(data=args.data)
    tracer = Opened(sources, runs_root()).tracer
    with tempfile.TemporaryDirectory() as folder:
        for name, make in tasks(tracer, sources).items():
            if args.only and not name.startswith(tuple(args.only)):
                continue
            task, began = make(), time.monotonic()
            run = launch_task(task, Path(folder))
            while run.status().state == "running":
                time.sleep(0.2)
            taken = time.monotonic() - began
            print(
                f"{name}: promised {task.seconds:.0f} s, taken {taken:.0f} s ({run.status().state}), "
                f"ratio {taken / task.seconds:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
