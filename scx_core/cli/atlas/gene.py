"""`scx gene`: the features that read or write a gene."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli.atlas.features import add_atlas, open_atlas, rows_text

HELP = "list the features that read or write a gene"

SHOWN = 40


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", metavar="SYMBOL", help="the gene, as CD74")
    add_atlas(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The features as records, the strongest readers first."""
    found = open_atlas(args).gene(args.symbol)
    return {"gene": args.symbol.upper(), "features": found.to_dict("records")}


def summary(result: dict[str, Any]) -> str:
    """One line a feature."""
    from scx_core.atlas.tables.atlas import SELDOM

    rows = rows_text(result["features"][:SHOWN], ("reads", "pushes"))
    said = "Features that (nearly) never fire, marked dead or rare by their verdict, stand last."
    seldom = any(row["verdict"] in SELDOM for row in result["features"])
    return f"{rows}\n\n{said}" if seldom else rows
