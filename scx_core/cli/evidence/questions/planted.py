"""`scx evidence planted`: random planted rules, and how many of them each method recovers exactly."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "plant random rules into small models: which methods find the genes, and only them"
DESCRIPTION = (
    "Random rules (A and B; A and B or C and D; A unless B; two of A, B, C) over random genes are learned by "
    "small models, four a model; every method then names the rule's genes. Simulated cells: nothing here is "
    "biology. One file a planting; what is there is not made again."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.build.plantings import PlantingsConfig
    from scx_core.evidence.random_plantings import ScoreConfig

    parser.add_argument(
        "--out", type=Path, default=Path("plantings"), metavar="FOLDER", help="folder of the results"
    )
    add_arguments(parser.add_argument_group("plantings"), PlantingsConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("scores"), ScoreConfig, skip=("seed",))
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as docs/planted.md has them"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The plantings and the table of methods, as JSON."""
    from dataclasses import replace

    from scx_core.build.plantings import PlantingsConfig, run_plantings
    from scx_core.evidence.planting_tables import recovery_table
    from scx_core.evidence.random_plantings import ScoreConfig

    cfg = from_namespace(PlantingsConfig, args)
    cfg = replace(cfg, score=from_namespace(ScoreConfig, args))
    found = run_plantings(args.out, cfg, common.progress_of(args))
    return recovery_table(found) | {"plantings": found, "markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The shares by method and kind, and the plantings that were missed."""
    from scx_core.evidence.planting_tables import planting_text

    return planting_text(result, result["markdown"])
