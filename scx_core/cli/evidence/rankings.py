"""`scx rankings`: a circuit's ten genes beside those of other rankings, by measured joint knock-outs."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "a circuit's strongest genes beside other rankings, by what taking them out does to the real model"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.rankings.rankings import RankingConfig

    parser.add_argument(
        "--type",
        action="append",
        help="cell type, may be given several times (default: all with enough cells)",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    parser.add_argument(
        "--markers", metavar="FILE", help="marker table or GMT file in the place of the known markers"
    )
    add_arguments(parser.add_argument_group("rankings"), RankingConfig, skip=("seed",))
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as docs/evidence.md has them"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The rankings of every type, as JSON."""
    from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of

    cfg = from_namespace(RankingConfig, args)
    tracer = common.open_tracer(args)
    kept = {"kept": True, "runs": args.runs, "again": args.again}
    found = rank_genes_of(tracer, args.type, cfg, common.progress_of(args), args.markers, **kept)
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """One table of drops and one of markers."""
    from scx_core.evidence.rankings.rankings import ranking_tables

    return ranking_tables(result, result["markdown"])
