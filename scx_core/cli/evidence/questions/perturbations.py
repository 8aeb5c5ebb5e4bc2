"""`scx evidence perturbations`: measured perturbations beside a model's in-silico knock-outs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "hold in-silico knock-outs against a measured screen (Perturb-seq, CRISPRi)"
DESCRIPTION = (
    "Mean measured change of every gene by every target, beside what a model expects differently when the "
    "target is taken out of control cells' sentences; against shuffled targets, co-expression, mean "
    "expression and the mean of other targets. Without --model a small model is trained on most of the "
    "control cells first (some minutes, kept in the runs folder) and asked about the others."
)
OWN = "control"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.biology.perturbations import PerturbationConfig

    group = parser.add_argument_group("screen")
    group.add_argument("--target-column", required=True, metavar="COLUMN", help="column of obs with targets")
    group.add_argument(
        "--control", required=True, metavar="LABEL", help="what that column says of control cells"
    )
    common.add_cells(parser)
    common.add_model(parser)
    parser.set_defaults(model=OWN)
    common.add_run(parser)
    add_arguments(parser.add_argument_group("study"), PerturbationConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/evidence.md has them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The study, as JSON."""
    from dataclasses import replace

    from scx_core.build.control_cells import control_model
    from scx_core.evidence.biology.agreement import perturbations
    from scx_core.evidence.biology.perturbations import PerturbationConfig, open_screen

    args.label = getattr(args, "label", args.target_column)
    table = common.open_table(args)
    screen, progress = open_screen(table, args.target_column, args.control), common.progress_of(args)
    read_in = None
    if args.model == OWN:
        made = control_model(Path(args.runs) / (args.name or "control-model"), table, screen, None, progress)
        if made is None:
            raise KeyboardInterrupt("stopped; the same command goes on")
        lm, read_in = made
    else:
        lm = common.open_language(args)
    cfg = from_namespace(PerturbationConfig, args)
    constant = replace(table, answer_of=None)
    found = perturbations(
        lm, constant, args.target_column, args.control, cfg, read_in=read_in, progress=progress
    )
    return common.keep_answer(args, "perturbations", found.to_json()) | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The tables of the study."""
    from scx_core.evidence.biology.perturbation_tables import perturbation_tables

    return perturbation_tables(result, result["markdown"])
