"""`scx circuit`: the circuit of a cell type, common to many of its cells."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from scx_core.cli import common, trace
from scx_core.cli.parser import Subparsers
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.circuits import Circuit

summary = trace.summary


def add(subparsers: Subparsers) -> argparse.ArgumentParser:
    """The command's parser."""
    words = "trace the circuit of a cell type over many of its cells"
    return subparsers.add_parser("circuit", help=words, description=f"{words.capitalize()}.", fill=_options)


def _options(parser: argparse.ArgumentParser) -> None:
    add_consensus(parser)
    common.add_output(parser)


def add_consensus(parser: argparse.ArgumentParser) -> None:
    """All options that make a consensus."""
    from scx_core.circuits import ConsensusConfig, TraceConfig

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument(
        "--steps", action="store_true", help="propose groups of features that act as one step"
    )
    trace.add_against(parser)
    trace.add_knockouts(parser)
    common.add_cells(parser)
    common.add_model(parser)
    common.add_transcoders(parser)
    add_arguments(parser.add_argument_group("consensus"), ConsensusConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("trace"), TraceConfig, skip=("nodes", "choice"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The consensus circuit as JSON."""
    return consensus(args).to_json()


def consensus(args: argparse.Namespace) -> Circuit:
    """The consensus circuit that the options ask for."""
    from scx_core.circuits import ConsensusConfig, TraceConfig
    from scx_core.circuits.supernodes import propose

    config, tracing = from_namespace(ConsensusConfig, args), from_namespace(TraceConfig, args)
    tracer = common.open_tracer(args)
    found = tracer.consensus(
        args.type or str(tracer.table.cells_per_type().index[0]),
        answer=args.answer,
        against=args.against,
        trace=tracing,
        cfg=config,
        progress=common.progress_of(args),
    )
    if getattr(args, "knockouts", False):
        from scx_core.evidence import with_knockouts

        found = with_knockouts(tracer, found, progress=common.progress_of(args))
    return found._replace(supernodes=propose(found)) if args.steps else found
