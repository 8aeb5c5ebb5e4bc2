"""`scx claims`: every sentence that is said here, beside what could embarrass it."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "every sentence about model, set, circuits and atlas: its figure, its rival, whether it holds"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.claims import PARTS, ClaimsConfig

    parser.add_argument(
        "--only",
        action="append",
        choices=tuple(PARTS),
        metavar="PART",
        help=f"this part alone, may be given several times: {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few cells of two types; every row says of how many"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/claims.md has it")
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("claims"), ClaimsConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All claims, as JSON."""
    from scx_core.atlas.feature_naming import fitting_atlas
    from scx_core.claims import ClaimsConfig, all_claims, quick

    cfg = from_namespace(ClaimsConfig, args, quick() if args.quick else None)
    tracer = common.open_tracer(args)
    parts = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
    found = all_claims(tracer, fitting_atlas(parts), args.only or (), cfg, common.progress_of(args))
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """One table a part."""
    from scx_core.claims import claims_text

    return claims_text(result, result["markdown"])
