"""`scx smallest`: the fewest features that keep a wanted share of a target, by real intervention."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.runs import add_arguments, from_namespace

HELP = "find the smallest circuit that keeps a share of the target"

WORDS = {
    "ours": "searched",
    "greedy": "plain greedy",
    "influence_cut": "influence cut",
    "ours_as_cut": "searched, share of the cut",
    "greedy_as_cut": "plain greedy, share of the cut",
    "strict_cut": "cut of all kinds of nodes",
    "ours_as_strict_cut": "searched, share of that cut",
    "greedy_as_strict_cut": "plain greedy, share of that cut",
    "random": "random, same layers and activation",
}
SHOWN = 12  # nodes that the text names


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import TraceConfig
    from scx_core.evidence.ablation_reference import InterventionConfig
    from scx_core.evidence.smallest.circuit_search import SearchConfig
    from scx_core.evidence.smallest.smallest_circuit import SmallestConfig

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument(
        "--cell", metavar="ROW", help="search in this one cell instead, by position: its number or name"
    )
    trace.add_against(parser)
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("circuit"), SmallestConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("search"), SearchConfig)
    add_arguments(parser.add_argument_group("intervention"), InterventionConfig)
    skip = [
        name for name in TraceConfig.__dataclass_fields__ if name not in ("target", "token", "node_share")
    ]
    add_arguments(parser.add_argument_group("trace"), TraceConfig, skip=skip)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The nodes, and every set with its size and what it keeps, as JSON."""
    from scx_core.circuits import TraceConfig
    from scx_core.evidence.ablation_reference import InterventionConfig
    from scx_core.evidence.smallest.circuit_search import SearchConfig
    from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest, smallest_in_cell

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
        row = tracer.table.row_of(args.cell)
        return smallest_in_cell(tracer, row, label=args.answer or args.type, **settings).to_json()
    label = common.type_of(args, tracer.table)
    return smallest(tracer, label, answer=args.answer, **settings).to_json()


def summary(result: dict[str, Any]) -> str:
    """What remains without any feature, then the sizes side by side, and the first nodes."""
    from scx_core.circuits import Target
    from scx_core.circuits.words.whose import training_words
    from scx_core.circuits.words.wording import answered_in, competitor_sentences

    keys = ("size", "search", "unseen", "low", "high", "closeness", "whole")
    faint = " (faint)" if result["faint"] else ""
    rows = [(WORDS[name] + faint, *(one[key] for key in keys)) for name, one in result["sets"].items()]
    cells = result["cells"]
    called = [f" {name}" if name else "" for name in result["names"]]
    ids = ["L" + "·".join(map(str, node)) for node in result["nodes"]]
    nodes = [node + name for node, name in zip(ids, called, strict=True)][:SHOWN]
    more = len(result["nodes"]) - len(nodes)
    missed = [WORDS[name] for name, one in result["sets"].items() if not one["reached"]]
    parts = [
        f"{result['target']}: {remains(result)}",
        f"Wanted: {result['measure']} {result['wanted']:g} of what the features add. `whole` is the target "
        "under the set over the target with all features.",
        common.columns(rows, ("node set", *keys)),
        ahead(result),
        f"{len(cells['search'])} cells searched, {len(cells['unseen'])} others verified, "
        f"{len(cells['reference'])} for the reference.",
        f"{'; '.join(nodes)}{f' and {more} more' if more else ''}",
    ]
    if missed:
        parts.insert(3, f"Not reached: {', '.join(missed)}.")
    if words := training_words(result["provenance"]):
        parts.append(f"Of the cells of the figures: {words}")
    if why := result["provenance"].get("not_compared"):
        parts.insert(3, f"Not compared with the influence cut and plain greedy: {why}")
    facts = result["whose"]
    target = Target(result["target"], "", None, {}, **{key: facts[key] for key in ("kind", "against")})
    target = target._replace(left_out=tuple(facts["left_out"]), same_target=tuple(facts["same_target"]))
    parts.insert(
        1, " ".join([answered_in(facts["called"], facts["of"]), *competitor_sentences(target)]).strip()
    )
    if result["faint"]:
        parts.insert(1, f"Faint: {'; '.join(result['added']['faint'])}. Shares of so little say little.")
    return "\n\n".join(parts)


def remains(result: dict[str, Any]) -> str:
    """ "without any feature 5.74 of 8.52 logits remain (67%); the features add 2.78 [2.40, 3.10], n = 24"."""
    added, logits, cells = result["added"], result["logits"], result["cells"]
    share = "" if added["remains"] is None else f" ({added['remains']:.0%})"
    unit = result["whose"]["unit"]
    return (
        f"without any feature {logits['empty']:.2f} of {logits['full']:.2f} {unit} remain{share}; "
        f"the features add {common.with_interval(added)}, n = {len(cells['unseen']) or 1}"
    )


def ahead(result: dict[str, Any]) -> str:
    """How far the set found is ahead of random ones."""
    found = result["ahead"]
    return (
        f"The set found keeps {common.with_interval(found)} more than {found['draws']:.0f} random sets of "
        f"the same size, layers and activation, which keep {found['least']:.2f} to {found['most']:.2f}."
    )
