"""`scx rate`: what people said of units, as CSV, and how far they agree with the verdicts and each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.cli.atlas.features import add_atlas, open_atlas
from scx_core.errors import ScxError

HELP = "export people's ratings of features, or their agreement (Cohen's kappa)"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("export", "agreement"), help="answers as CSV, or their agreement")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="where export writes (ratings.csv)")
    add_atlas(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the answers, or compare them."""
    from scx_core.atlas.rating.ratings import agreement, rating_table
    from scx_core.figures import table_csv
    from scx_core.runs.files import write_atomic

    if args.what == "export":
        common.check_out(args, args.out or "ratings.csv")
    atlas = open_atlas(args)
    if args.what == "agreement":
        if args.out is not None:
            raise ScxError("--out belongs to export.", "Give --json FILE for the agreement.")
        return {"agreement": [one._asdict() for one in agreement(atlas)]}
    table, out = rating_table(atlas), args.out or Path("ratings.csv")
    write_atomic(out, table_csv(table.astype(object)))
    return {"ratings": len(table), "file": str(out)}


def summary(result: dict[str, Any]) -> str:
    """Where the answers are, or one line a pair."""
    if "file" in result:
        return f"{result['ratings']} answers in {result['file']}"
    if not result["agreement"]:
        return "nobody has rated anything yet"
    rows = [
        (
            f"{one['first']} and {one['second']}",
            one["about"],
            str(one["units"]),
            f"{one['share']:.0%}",
            "not defined" if one["kappa"] is None else f"{one['kappa']:.2f}",
        )
        for one in result["agreement"]
    ]
    return common.columns(rows, ("raters", "about", "units", "equal", "kappa"))
