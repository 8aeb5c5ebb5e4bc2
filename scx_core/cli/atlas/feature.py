"""`scx feature`: all that an atlas knows of one feature; a label of one's own."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.cli.atlas.features import add_atlas, open_atlas
from scx_core.errors import ScxError

HELP = "show one feature of an atlas, or give it a label"

LISTS = ("genes", "families", "pieces", "types", "ranks", "writes")
SHOWN = 6  # rows of each table that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layer", metavar="LAYER", help="the layer, from 0")
    parser.add_argument("number", metavar="NUMBER", help="the feature's number, from 0")
    parser.add_argument(
        "--set-label", metavar="TEXT", help="your label for it; an empty one takes yours back"
    )
    parser.add_argument("--author", metavar="NAME", default="", help="who gives the label")
    add_atlas(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The feature's row and tables as records."""
    import pandas as pd

    if not (args.layer.isdecimal() and args.number.isdecimal()):
        raise ScxError(f"{args.layer[:20]} {args.number[:20]} is no feature.", "Give two numbers, as 2 513.")
    atlas, layer, number = open_atlas(args), int(args.layer), int(args.number)
    if args.set_label is not None:
        atlas.give_label(layer, number, args.set_label, args.author)
    found = atlas.feature(layer, number)
    tables = {
        name: value.to_dict("records")
        for name, value in found._asdict().items()
        if isinstance(value, pd.DataFrame)
    }
    name = f"L{layer}·{number}"
    return {
        **found.row.to_dict(),
        **tables,
        "labels": [one._asdict() for one in found.labels],
        "name": name,
        "label": atlas.labels().get(name, str(found.row["label"])),
    }


def summary(result: dict[str, Any]) -> str:
    """The verdict, then a few rows of every table."""
    head = (
        f"{result['name']}: {result['label']}\n{result['verdict']}, score {result['score']:.2f}; fires at "
        f"{result['frequency']:.2%} of the tokens, in {result['cells']} cells"
    )
    parts = [head]
    for name in LISTS:
        rows = [row for row in result[name] if row.get("kind") != "token" or row["weight"] > 0][:SHOWN]
        if rows:
            keys = [key for key in rows[0] if key not in ("layer", "feature", "rank_bin", "token", "kind")]
            keys.sort(key=lambda key: not isinstance(rows[0][key], str))
            parts.append(common.columns([tuple(row[key] for key in keys) for row in rows], (name, *keys[1:])))
    top = [row for row in result["examples"] if row["kind"] == "top"][:SHOWN]
    parts.append(
        "\n".join(f"{row['value']:8.3g}  {''.join(row['texts'])}  ({row['cell_type']})" for row in top)
    )
    return "\n\n".join(parts)
