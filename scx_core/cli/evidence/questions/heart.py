"""`scx evidence heart`: a heart model of simulated cells, its endothelial circuit, and real pools beside."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

HELP = "simulate heart cells, train a model on them, and ask what its endothelial circuit says"
DESCRIPTION = (
    "From mean profiles of heart cell types: simulated cells, a small model with its transcoders, the "
    "endothelial circuit against all other types and against pericytes beside its rivals, knock-outs of VWF, "
    "SPARCL1 and PTPRB, and real pools of nuclei that the model never saw. Everything lies in one folder; "
    "started again, it goes on where it stopped."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.build.heart import HeartModelConfig
    from scx_core.cells.simulated import SimulationConfig
    from scx_core.evidence.studies.heart import HeartConfig

    group = parser.add_argument_group("heart")
    group.add_argument("--profiles", metavar="FILE", required=True, help="mean expression, a row a cell type")
    group.add_argument("--pools", metavar="FILE", help="real rows (pools of nuclei) that are held out")
    common.add_run(parser)
    add_arguments(parser.add_argument_group("simulated cells"), SimulationConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("model"), HeartModelConfig)
    add_arguments(parser.add_argument_group("study"), HeartConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/evidence.md has them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The study, as JSON."""
    from scx_core.build.heart import HeartModelConfig, run_heart
    from scx_core.cells.simulated import SimulationConfig
    from scx_core.evidence.studies.heart import HeartConfig

    for name in (args.profiles, args.pools):
        if name is not None and not Path(name).exists():
            raise ScxError(f"There is no file {name}.", "Give the file of mean profiles, or of real pools.")
    folder = Path(args.runs) / (args.name or "heart")
    found = run_heart(
        folder,
        args.profiles,
        args.pools,
        from_namespace(SimulationConfig, args),
        from_namespace(HeartConfig, args),
        from_namespace(HeartModelConfig, args),
        common.progress_of(args),
    )
    if found is None:
        raise KeyboardInterrupt(f"stopped; the same command goes on in {folder}")
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The tables of the study."""
    from scx_core.evidence.studies.heart_tables import heart_tables

    return heart_tables(result, result["markdown"])
