"""`scx match`: which features of one transcoder set are found again in another, beside what chance finds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace, write_atomic

HELP = "match the features of two transcoder sets by weights, by activation and by genes"

SHARES = ("found", "found_null", "mutual", "mutual_null", "generalises", "generalises_null")


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.atlas import MatchConfig

    parser.add_argument("first", metavar="A", help="folder of a set, or embedded, embedded-paper")
    parser.add_argument("second", metavar="B", help="the set whose features are looked for in A's place")
    parser.add_argument(
        "--other-model", metavar="FOLDER", help="the model of B (default: that of --model, for both)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the pairs as CSV")
    add_arguments(parser.add_argument_group("matching"), MatchConfig, skip=("seed",))
    common.add_cells(parser)
    common.add_model(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Match, and write the pairs where wanted."""
    from scx_core.atlas import MatchConfig, Side, match_sets
    from scx_core.transcoders import load_set

    cfg = from_namespace(MatchConfig, args)
    if args.out is not None:
        common.check_out(args, args.out)
    table, lm = common.open_table(args), common.open_language(args)
    other = lm
    if args.other_model is not None:
        other = common.open_language(argparse.Namespace(model=args.other_model, device=args.device))
    sides = [
        Side(model, load_set(folder, model.device, model.dtype))
        for model, folder in ((lm, args.first), (other, args.second))
    ]
    found = match_sets(sides[0], sides[1], table, cfg=cfg, progress=common.progress_of(args))
    if args.out is not None:
        write_atomic(args.out, found.pairs.to_csv(index=False, lineterminator="\n"))
    return {
        "shares": found.shares.to_dict("records"),
        "skipped": found.skipped,
        "pairs": found.pairs.to_dict("records"),
        "provenance": found.provenance,
    }


def summary(result: dict[str, Any]) -> str:
    """Shares over all layers and by layer, real beside null."""
    rows = [
        (
            f"{row['way']}, {'all layers' if row['layer'] < 0 else 'layer ' + str(row['layer'])}",
            row["features"],
            *(f"{row[name]:.1%}" for name in SHARES),
            row["score"],
            row["score_null"],
        )
        for row in result["shares"]
    ]
    header = ("way", "live", "found", "null", "mutual", "null", "generalise", "null", "median score", "null")
    notes = [f"{way}: {why}" for way, why in result["skipped"].items()]
    return "\n".join([common.columns(rows, header), *notes])
