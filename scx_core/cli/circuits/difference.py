"""`scx difference`: what differs between two cell types, two models or two transcoder sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.cli.circuits import circuit, trace
from scx_core.errors import ScxError
from scx_core.runs import from_namespace

if TYPE_CHECKING:
    from scx_core.circuits.difference import Difference

HELP = "compare the circuits of two cell types, or of one under two models or transcoder sets"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--other", metavar="TYPE", help="compare with this cell type")
    parser.add_argument(
        "--other-model", metavar="FOLDER", help="compare with another model on the same cells"
    )
    parser.add_argument(
        "--other-transcoders", metavar="FOLDER", help="compare with another set on the same cells"
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="also draw both sides beside each other (.png, .svg or .pdf)"
    )
    parser.add_argument(
        "--least", type=float, default=0.0, metavar="SHARE",
        help="leave out of the figure what differs by less than this share of the largest difference",
    )  # fmt: skip
    circuit.add_settings(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both consensus circuits and their difference, as JSON."""
    from scx_core.circuits import ConsensusConfig, TraceConfig
    from scx_core.circuits.difference import compare_models, compare_types

    models = args.other_model is not None or args.other_transcoders is not None
    if models == (args.other is not None):
        raise ScxError(
            "One thing is compared at a time.",
            "Give --other TYPE, or --other-model and --other-transcoders, and not both.",
        )
    config, tracing = from_namespace(ConsensusConfig, args), from_namespace(TraceConfig, args)
    tracer = common.open_tracer(args)
    label = common.type_of(args, tracer.table)
    progress = common.progress_of(args)
    if models:
        # the same cells with the other model, the other set, or both
        from scx_core.circuits import make_tracer

        if args.other_model is None:
            lm = tracer.lm
        else:
            lm = common.open_language(argparse.Namespace(model=args.other_model, device=args.device))
        chosen = args.other_transcoders or args.transcoders
        other = make_tracer(
            lm, common.open_transcoders(argparse.Namespace(transcoders=chosen), lm), tracer.table
        )
        found = compare_models(tracer, other, label, trace=tracing, cfg=config, progress=progress)
    else:
        found = compare_types(tracer, label, args.other, trace=tracing, cfg=config, progress=progress)
    if args.figure:
        _draw(found, Path(args.figure), args.least)
    return found.to_json()


def _draw(found: Difference, path: Path, least: float) -> None:
    from scx_core.figures import markers_of
    from scx_core.figures.pair import pair_picture
    from scx_core.runs.files import write_atomic

    markers = markers_of(found.first)[0] or frozenset()
    write_atomic(path, pair_picture(found, path.suffix.lower()[1:], least=least, markers=markers))


def summary(result: dict[str, Any]) -> str:
    """What differs on which side, strongest first, beside what random halves of the first side give."""
    from scx_core.circuits import Circuit
    from scx_core.circuits.words.wording import (
        answer_frequency,
        competitor_sentences,
        faint_note,
        statistics_sentences,
    )
    from scx_core.figures.captions import direction

    found, (first, second) = result["difference"], result["names"]
    circuit = Circuit.from_json(found)
    sides = [{gene["gene"]: gene["effect"] for gene in result[side]["genes"]} for side in ("first", "second")]
    strongest = sorted(circuit.genes, key=lambda gene: (-abs(gene.effect), gene.gene))[: trace.STRONGEST]
    rows = [
        (
            g.gene,
            *(side.get(g.gene, 0.0) for side in sides),
            *(g.effect, g.low, g.high, g.q),
            direction(circuit, g.effect, g.q),
        )
        for g in strongest
    ]
    traced = (Circuit.from_json(result[side]) for side in ("first", "second"))
    both = zip(result["names"], traced, strict=True)
    whose = [f"{name}: {answer_frequency(one)}" for name, one in both if answer_frequency(one)]
    whose += [text for text in (faint_note(circuit), *competitor_sentences(circuit.target)) if text]
    header = ("gene", "first", "second", "difference", "low", "high", "q", "")
    values = " and ".join(f"{result[side]['target']['value']:.3f}" for side in ("first", "second"))
    return "\n\n".join(
        [
            f"{found['target']['label']}\nfirst: {first}; second: {second}; targets {values}",
            "\n".join(whose),
            common.columns(rows, header),
            "\n".join(statistics_sentences(circuit)),
        ]
    )
