"""`scx attributions`: which fast attribution predicts measured knock-outs, on cells that did not choose."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

ENOUGH = 20  # cells of a type that is asked by itself
HELP = "judge fast attributions of genes by measured knock-outs"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.knockouts.prediction import PredictConfig

    parser.add_argument(
        "--type",
        action="append",
        help="cell type, may be given several times (default: all with a name that the model knows and at "
        "least 20 cells)",
    )
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("attributions"), PredictConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The scores of every attribution in every type, in both halves, as JSON."""
    from scx_core.circuits.tracer import own_answer
    from scx_core.evidence.knockouts.prediction import PredictConfig, judge, to_json

    cfg = from_namespace(PredictConfig, args)
    tracer = common.open_tracer(args)
    counts = tracer.table.cells_per_type()
    types = args.type or [
        str(name)
        for name, n in counts.items()
        if n >= ENOUGH and own_answer(tracer.table, tracer.labels, name)
    ]
    return to_json(judge(tracer, types, cfg, common.progress_of(args)), cfg)


def summary(result: dict[str, Any]) -> str:
    """For each type a table: Spearman with both knock-outs and the sign of the strongest, with intervals."""
    parts = []
    for one in result["types"]:
        rows = [
            (name, *(common.with_interval(found[key]) for key in ("gap", "text", "sign")))
            for name, found in one["second"].items()
        ]
        header = ("attribution", "Spearman, gap", "Spearman, text", "sign of 20 strongest")
        words = f"{one['label']} ({one['n_second']} cells that did not choose)"
        parts.append(f"{words}\n{common.columns(rows, header)}")
    goal, n = result["goal"], len(result["types"])
    reached = len(goal["reached"][result["default"]])
    parts.append(
        f"Best in the other halves: {result['chosen']}. Shipped: {result['default']}; Spearman with gap ≥ "
        f"{goal['spearman']} and sign ≥ {goal['sign']} in {reached} of {n} types."
    )
    return "\n\n".join(parts)
