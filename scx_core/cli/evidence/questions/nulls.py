"""`scx evidence nulls`: the false-positive rate of each significance call, with labels dealt anew."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "the false-positive rate of each significance call, with labels dealt anew"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.null_rates import NullConfig

    parser.add_argument(
        "--types", nargs=2, metavar="TYPE", help="two cell types (default: the two most frequent)"
    )
    parser.add_argument("--atlas", metavar="FOLDER", help="also the gene sets of this atlas' features")
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("nulls"), NullConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/evidence.md has it")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every rate, as JSON."""
    from scx_core.atlas import Atlas
    from scx_core.atlas.gene_sets.gmt import shipped_markers
    from scx_core.evidence.null_rates import NullConfig, gene_set_rate, null_rates

    cfg = from_namespace(NullConfig, args)
    types = tuple(args.types) if args.types else None
    found = null_rates(common.open_tracer(args), types, cfg=cfg, progress=common.progress_of(args))
    if args.atlas:
        sets = gene_set_rate(Atlas.open(args.atlas), shipped_markers(), cfg)
        found = found._replace(rates=(*found.rates, sets))
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """One row a call."""
    from scx_core.evidence.null_rates import null_rows
    from scx_core.evidence.rankings.rankings import markdown, plain

    return (markdown if result["markdown"] else plain)(*null_rows(result))
