"""`scx evidence steer`: ablate, steer, set or patch features in the real model, over doses."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace
from scx_core.statistics.resampling import interval_words

HELP = "ablate, steer or patch features in the real model over doses, beside random features"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.feature_edits import MODES, EditConfig

    parser.add_argument("--type", help="cell type whose cells are edited (default: the most frequent)")
    parser.add_argument("--answer", help="label whose log-odds are read (default: that of the type)")
    parser.add_argument("--mode", choices=MODES, default="steer", help="what is done (default: steer)")
    parser.add_argument(
        "--features",
        nargs="+",
        metavar="LAYER:NUMBER",
        help="these features, together (default: the most influential of the type's circuit)",
    )
    parser.add_argument("--doses", nargs="+", type=float, metavar="DOSE", help="doses (default: by mode)")
    parser.add_argument(
        "--source",
        metavar="TYPE|ROW",
        help="patch: take activations from cells of this type, or from one cell (default: all other types)",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("edits"), EditConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The dose curve, as JSON."""
    from scx_core.evidence.by_type.answers import edits_answer
    from scx_core.evidence.feature_edits import EditConfig

    tracer, cfg = common.open_tracer(args), from_namespace(EditConfig, args)
    label = common.type_of(args, tracer.table)
    features = [common.parse_feature(text) for text in args.features] if args.features else None
    source = args.source
    if source is not None and source not in tracer.table.types:
        source = tracer.table.row_of(source)
    return edits_answer(
        tracer, label, mode=args.mode, features=features, doses=args.doses, source=source,
        answer=args.answer, cfg=cfg, runs=args.runs, again=args.again, progress=common.progress_of(args),
    )  # fmt: skip


def summary(result: dict[str, Any]) -> str:
    """One line a dose: the features beside the random ones."""
    spans = common.with_interval
    names = [
        f"L{one['layer']}·{one['feature']}" + (f" {one['name']}" if one["name"] else "")
        for one in result["features"]
    ]
    before = result["before"]
    rows = [_row(one, result["draws"]) for one in result["doses"]]
    header = (
        "dose",
        f"target, {result['unit']}",
        "log-odds",
        "share called",
        "random, log-odds",
        "random, called",
        "ahead",
        "random weaker",
        "q",
    )
    source = f" from {result['source']}" if result["source"] else ""
    return "\n\n".join(
        [
            f"{result['mode']}{source}, at {result['where']} tokens: {'; '.join(names)}",
            f"{result['target']}; {result['n']} cells of {result['label']}, untouched: log-odds "
            f"{spans(before['log_odds'])}, called {result['answer']}: {spans(before['called'])}.",
            common.columns(rows, header),
            f"Changes of the real model [{interval_words(result['units'])} over {result['units']}]. "
            "Doses of steer and set are in maxima of each feature, of ablate and patch shares of the way. "
            "Random: features of the same layers and activation mass, edited with the same dose; ahead: "
            "log-odds less their mean.",
        ]
    )


def _row(one: dict[str, Any], draws: int) -> tuple[Any, ...]:
    spans, effect, random = common.with_interval, one["effect"], one["random"]
    among = f"{one['random_least']:.2f} to {one['random_most']:.2f}"
    return (
        f"{one['dose']:g}",
        *(spans(effect[name]) for name in ("target", "log_odds", "called")),
        f"{random['log_odds']['mean']:.2f} ({among})",
        f"{random['called']['mean']:.2f}",
        spans(one["ahead"]),
        f"{one['beyond']} of {draws}",
        one["q"],
    )
