"""`scx bench pareto`: every kind at several sparsities, as a table and a figure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import from_namespace, runs_root

COLUMNS = (
    "kind",
    "wanted_l0",
    "tuned",
    "l0",
    "ce_recovered",
    "kl",
    "fvu",
    "dead",
    "label_agreement",
    "closed",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the table; its steps are --steps."""
    from benchmarks.pareto import ParetoConfig
    from scx_core.runs import add_arguments

    group = parser.add_argument_group("pareto: every kind at several sparsities")
    add_arguments(group, ParetoConfig, skip=("steps", "seed"))
    group.add_argument(
        "--only", action="append", default=[], metavar="KIND:L0",
        help="train and measure only this cell of the table now, such as topk:8 (may be given several times)",
    )  # fmt: skip
    group.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="where its runs are (default: pareto in the folder of runs)",
    )
    group.add_argument("--figure", type=Path, metavar="FOLDER", help="draw it, and write it as CSV, there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure what is missing, then tabulate."""
    from benchmarks.pareto import ParetoConfig, bench_pareto
    from scx_core.cells import CellChoices
    from scx_core.training.config import TrainingJob

    cfg = from_namespace(ParetoConfig, args)
    lm, table = common.open_language(args), common.open_table(args)
    job = TrainingJob(
        sentences=lm.sentence_config,
        model=common.absolute(args.model),
        data=common.absolute(args.data),
        device=args.device,
        cells=from_namespace(CellChoices, args),
    )
    root = args.runs or runs_root() / "pareto"
    return bench_pareto(job, lm, table, root, cfg, args.only, args.figure, common.progress_of(args))


def summary(result: dict[str, Any]) -> str:
    """The table, what is missing of it, and the files."""
    rows = [tuple(_shown(row[key]) for key in COLUMNS) for row in result["pareto"]]
    settings = result["settings"]
    lines = [
        f"{result['model']}: {settings['steps']} steps, tuned: {settings['finetune_steps']} more with all "
        "layers together; every MLP replaced, on held-out cells; closed: share of the remaining CE gap that "
        "the tuning closes",
        common.columns(rows, COLUMNS),
    ]
    lines += [f"! not trained yet: {', '.join(result['missing'])}"] if result["missing"] else []
    return "\n".join([*lines, *result["files"]])


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else value
