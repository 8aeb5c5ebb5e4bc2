"""`scx evidence types`: all evidence for the circuits of several cell types, in one table."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import RunFolder, add_arguments, from_namespace

HELP = "all evidence for the circuits of several cell types: one command, one table, one ladder a type"
DESCRIPTION = (
    "For each type a consensus circuit is made on one half of its cells and judged on the other: joint and "
    "single knock-outs beside rivals, sufficiency and necessity, stability, markers, and how far up the "
    "ladder "
    "of claims that goes. Each type is saved at once: stopped and started again, the command goes on there."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.by_type.measure import TypesConfig

    parser.add_argument(
        "--type", action="append", help="cell type, may be given several times (default: the largest)"
    )
    common.add_inputs(parser)
    add_other_sets(parser)
    add_further(parser)
    common.add_runs(parser)
    add_arguments(parser.add_argument_group("types"), TypesConfig, skip=("seed",))
    parser.add_argument("--run", metavar="FOLDER", help="do the job in this folder (as the app starts it)")
    parser.add_argument("--again", action="store_true", help="measure what is saved already once more")
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables as docs/evidence.md has them"
    )


def add_other_sets(parser: argparse.ArgumentParser) -> None:
    """--other-set."""
    parser.add_argument(
        "--other-set",
        action="append",
        metavar="FOLDER",
        help="another transcoder set of the same model, may be given several times: is the circuit the same? "
        "(default: the other embedded set, where the embedded one is used)",
    )


def add_further(parser: argparse.ArgumentParser) -> None:
    """--also, --alone."""
    parser.add_argument(
        "--also",
        "--transfer",
        action="append",
        default=[],
        metavar="FILE",
        help="an answer of `scx evidence transfer`, perturbations, network, stability, steer or redundancy "
        "about this model (its --json), may be given several times; what lies in the runs folder is read by "
        "itself",
    )
    parser.add_argument("--alone", action="store_true", help="read no such answers from the runs folder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The records of all types, as JSON."""
    from scx_core.evidence.by_type.job import run_job
    from scx_core.evidence.by_type.measure import TypesConfig, evidence_of_types

    if args.run:
        return {"measured": run_job(RunFolder.open(args.run), common.progress_of(args))}
    tracer = common.open_tracer(args)
    found = evidence_of_types(
        tracer,
        args.type,
        from_namespace(TypesConfig, args),
        others=other_sets(args, tracer),
        root=args.runs,
        again=args.again,
        also=args.also,
        kept=not args.alone,
        progress=common.progress_of(args),
    )
    return found.to_json() | {"markdown": args.markdown}


def other_sets(args: argparse.Namespace, tracer: Any) -> Any:
    """The sets of --other-set; None where none is named."""
    from scx_core.transcoders import load_set

    if args.other_set is None:
        return None
    return [load_set(one, tracer.lm.device, tracer.lm.dtype) for one in args.other_set]


def summary(result: dict[str, Any]) -> str:
    """One table a question, and the ladders."""
    from scx_core.evidence.by_type.record import training_of
    from scx_core.evidence.by_type.tables import evidence_tables

    if "measured" in result:
        return f"Measured: {', '.join(result['measured'])}."
    trained = [f"{one['label']}: {words}" for one in result["types"] if (words := training_of(one))]
    return "\n\n".join(filter(None, [evidence_tables(result, result["markdown"]), "\n".join(trained)]))
