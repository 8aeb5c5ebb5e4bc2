"""`scx evidence redundancy`: joint next to single ablations of features and genes, and what takes over."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace
from scx_core.statistics.resampling import interval_words

HELP = "joint next to the sum of single ablations, of features and of genes, and what takes over"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.redundancy import RedundancyConfig

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("redundancy"), RedundancyConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The tables, as JSON."""
    from scx_core.evidence.by_type.answers import redundancy_answer
    from scx_core.evidence.redundancy import RedundancyConfig

    tracer, cfg = common.open_tracer(args), from_namespace(RedundancyConfig, args)
    label = common.type_of(args, tracer.table)

    return redundancy_answer(
        tracer, label, answer=args.answer, cfg=cfg, runs=args.runs, again=args.again,
        progress=common.progress_of(args),
    )  # fmt: skip


def summary(result: dict[str, Any]) -> str:
    """Joint beside the sum of singles, each alone, and what takes over."""
    spans, tables = common.with_interval, result["tables"]
    rows = [
        (name, len(one["names"]), spans(one["total"]), spans(one["joint"]), spans(one["gap"]), one["q"])
        for name, one in tables.items()
    ]
    alone = [
        (name, spans(single))
        for table in ("features", "genes")
        for name, single in zip(tables[table]["names"], tables[table]["singles"], strict=True)
    ]
    risen = [
        (
            f"L{one['layer']}·{one['feature']} {one['name'] or ''}".strip(),
            f"{one['before']['mean']:.4f}",
            "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**one["rise"]),
            one["share"],
        )
        for one in result["risen"]
    ]
    least, most = result["random_least"], result["random_most"]
    return "\n\n".join(
        [
            f"{result['target']}, drops of the label's log-odds (nats) in {result['n']} cells "
            f"[{interval_words(result['units'])} over {result['units']}]; gap: joint less the sum of singles",
            common.columns(rows, ("taken away", "number", "sum of singles", "joint", "gap", "q")),
            common.columns(alone, ("alone", "drop")),
            "Features of later layers that rise when the strongest are off (chosen in other cells):",
            common.columns(risen, ("feature", "before", "rise", "share of cells")),
            f"What they carry more than before: {spans(result['takeover'])}; after {result['draws']} matched "
            f"random groups {spans(result['random'])} ({least:.2f} to {most:.2f}); ahead "
            f"{spans(result['ahead'])}, p = {result['p']:.2g}.",
        ]
    )
