"""`scx features`: search, filter and sort the features of an atlas."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.atlas import Atlas

HELP = "list the features of an atlas: search, filter, sort"

SHOWN = ("verdict", "score", "label", "genes", "cell_type", "frequency")


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.atlas import FindConfig

    add_arguments(parser.add_argument_group("features"), FindConfig)
    add_atlas(parser)


def add_atlas(parser: argparse.ArgumentParser) -> None:
    """--atlas, or what an atlas is made from."""
    parser.add_argument(
        "--atlas",
        type=Path,
        metavar="FOLDER",
        help="an atlas (default: that of the options below, made at the first time)",
    )
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs (default: $SCX_RUNS)")
    common.add_inputs(parser)


def open_atlas(args: argparse.Namespace) -> Atlas:
    """The atlas of --atlas, else of cells, model and set."""
    from scx_core.atlas import Atlas, atlas_of

    if args.atlas is not None:
        return Atlas.open(args.atlas)
    table, lm = common.open_table(args), common.open_language(args)
    coders = common.open_transcoders(args, lm)
    return atlas_of(lm, coders, table, root=args.runs, progress=common.progress_of(args))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The features as records."""
    from scx_core.atlas import FindConfig
    from scx_core.atlas.tables.find import find

    cfg = from_namespace(FindConfig, args)
    return {"features": find(open_atlas(args), cfg).to_dict("records")}


def rows_text(rows: list[dict[str, Any]], more: tuple[str, ...] = ()) -> str:
    """Features as a plain table."""
    names = (*more, *SHOWN)
    cells = [(f"L{row['layer']}·{row['feature']}", *(_shown(row[name]) for name in names)) for row in rows]
    return common.columns(cells, ("feature", *names))


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return None if value != value else value
    return str(value)[:48]


def summary(result: dict[str, Any]) -> str:
    """One line a feature."""
    found = result["features"]
    if not found:
        return "no feature is like that"
    if "reads" not in found[0]:
        return rows_text(found)
    return rows_text(found, ("reads",)) + "\n\nreads: share of its activation at the gene."
