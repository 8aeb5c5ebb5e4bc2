"""`scx evidence rivals`: transcoders beside neurons, SAEs, random directions and linear maps."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "the same tracer and tests on neurons, SAEs, random directions and linear maps"
DESCRIPTION = (
    "Who else could have said it? The circuit's size at equal sufficiency, the prediction of measured "
    "knock-outs, known markers, features with a meaning, and the stand-in itself, for every kind of feature. "
    "SAEs are trained with `scx train --reads output --no-skip` and given with --sae."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.rivals.rivals import RivalConfig

    parser.add_argument(
        "--type", action="append", help="cell type, may be given several times (default: the most frequent)"
    )
    parser.add_argument("--sae", metavar="FOLDER", help="SAEs of the MLPs' outputs (default: none compared)")
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("rivals"), RivalConfig, skip=("seed",))
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as docs/evidence.md has them"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every set as a whole and in every type, as JSON."""
    from scx_core.evidence.rivals.rivals import RivalConfig, compare_rivals
    from scx_core.transcoders import load_set

    cfg, tracer = from_namespace(RivalConfig, args), common.open_tracer(args)
    sae = load_set(args.sae, tracer.lm.device, tracer.lm.dtype) if args.sae else None
    found = compare_rivals(tracer, args.type, sae=sae, cfg=cfg, progress=common.progress_of(args))
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """One table of sets, one a figure over types, and who wins what."""
    from scx_core.evidence.rivals.tables import rival_tables

    return rival_tables(result, result["markdown"])
