"""`scx smallest`: the fewest features that keep a wanted share of a target, by real intervention."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common, trace
from scx_core.cli.parser import Subparsers
from scx_core.runs import add_arguments, from_namespace

WORDS = {
    "ours": "searched",
    "greedy": "plain greedy",
    "influence_cut": "influence cut",
    "ours_as_cut": "searched, share of the cut",
    "greedy_as_cut": "plain greedy, share of the cut",
    "strict_cut": "cut of all kinds of nodes",
    "ours_as_strict_cut": "searched, share of that cut",
    "greedy_as_strict_cut": "plain greedy, share of that cut",
}
SHOWN = 12  # nodes that the text names


def add(subparsers: Subparsers) -> argparse.ArgumentParser:
    """The command's parser."""
    words = "find the smallest circuit that keeps a share of the target"
    return subparsers.add_parser("smallest", help=words, description=f"{words.capitalize()}.", fill=_options)


def _options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import TraceConfig
    from scx_core.circuits.reference import InterventionConfig
    from scx_core.circuits.search import SearchConfig
    from scx_core.circuits.smallest import SmallestConfig

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument(
        "--cell", metavar="ROW", help="search in this one cell instead, by position: its number or name"
    )
    trace.add_against(parser)
    common.add_cells(parser)
    common.add_model(parser)
    common.add_transcoders(parser)
    add_arguments(parser.add_argument_group("circuit"), SmallestConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("search"), SearchConfig)
    add_arguments(parser.add_argument_group("intervention"), InterventionConfig)
    skip = [
        name for name in TraceConfig.__dataclass_fields__ if name not in ("target", "token", "node_share")
    ]
    add_arguments(parser.add_argument_group("trace"), TraceConfig, skip=skip)
    common.add_output(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The nodes, and every set with its size and what it keeps, as JSON."""
    from scx_core.circuits import TraceConfig
    from scx_core.circuits.reference import InterventionConfig
    from scx_core.circuits.search import SearchConfig
    from scx_core.circuits.smallest import SmallestConfig, smallest, smallest_in_cell

    settings: dict[str, Any] = {
        "trace": from_namespace(TraceConfig, args),
        "cfg": from_namespace(SmallestConfig, args),
        "intervention": from_namespace(InterventionConfig, args),
        "search": from_namespace(SearchConfig, args),
        "against": args.against,
        "progress": common.progress_of(args),
    }
    tracer = common.open_tracer(args)
    if args.cell is not None:
        row = trace.find_row(tracer.table, args.cell)
        return smallest_in_cell(tracer, row, label=args.answer or args.type, **settings).to_json()
    label = args.type or str(tracer.table.cells_per_type().index[0])
    return smallest(tracer, label, answer=args.answer, **settings).to_json()


def summary(result: dict[str, Any]) -> str:
    """The sizes side by side, and the first nodes."""
    keys = ("size", "search", "unseen", "low", "high", "closeness")
    rows = [(WORDS[name], *(one[key] for key in keys)) for name, one in result["sets"].items()]
    cells, logits = result["cells"], result["logits"]
    nodes = ["·".join(map(str, node)) for node in result["nodes"][:SHOWN]]
    more = len(result["nodes"]) - len(nodes)
    missed = [WORDS[name] for name, one in result["sets"].items() if not one["reached"]]
    parts = [
        f"{result['target']}: {logits['full']:.2f} logits with all features, "
        f"{logits['empty']:.2f} with none; wanted {result['measure']} {result['wanted']:g}",
        common.columns(rows, ("node set", *keys)),
        f"{len(cells['search'])} cells searched, {len(cells['unseen'])} others verified, "
        f"{len(cells['reference'])} for the reference.",
        f"L{' L'.join(nodes)}{f' and {more} more' if more else ''}",
    ]
    if missed:
        parts.insert(2, f"Not reached: {', '.join(missed)}.")
    return "\n\n".join(parts)
