"""`scx evidence curves`: is a circuit sufficient and necessary, over its size, beside matched random ones?"""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace, to_dict

HELP = "sufficiency and necessity of a circuit over its size, beside matched random circuits; CPR and CMD"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.curves import CurvesConfig

    parser.add_argument(
        "--type",
        action="append",
        help="cell type, may be given several times (default: the most frequent)",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("curves"), CurvesConfig, skip=("seed",))
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as docs/evidence.md has them"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The curves of every type, as JSON."""
    from scx_core.evidence.curves import CurvesConfig, curves_of_types

    tracer = common.open_tracer(args)
    labels = args.type or [common.type_of(argparse.Namespace(type=None), tracer.table)]
    cfg = from_namespace(CurvesConfig, args)

    def make() -> dict[str, Any]:
        found = curves_of_types(tracer, labels, cfg=cfg, progress=common.progress_of(args))
        return {"types": [one.to_json() for one in found]}

    config = {"types": labels, "curves": to_dict(cfg)}
    return common.answer_cached(args, "curves", tracer, config, make) | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """Areas beside random circuits, the points of the curves, CPR and CMD."""
    from scx_core.evidence.curve_tables import curve_tables

    return curve_tables(result["types"], result["markdown"])
