"""`scx report`: the evidence for one cell type's circuit, as a page or a PDF that a referee can read."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "write all evidence for a cell type's circuit as one HTML page or PDF, with its tables beside"
DESCRIPTION = (
    f"{HELP.capitalize()}. What was measured before (`scx evidence types`, the page Evidence) with the same "
    "settings is used; the rest is measured first."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.cli.evidence.questions.types import add_further, add_other_sets
    from scx_core.evidence.by_type.measure import TypesConfig

    parser.add_argument("--type", help="cell type (default: the most frequent)")
    parser.add_argument("-o", "--out", default="report.html", metavar="FILE", help="on .html or .pdf")
    common.add_inputs(parser)
    add_other_sets(parser)
    add_further(parser)
    common.add_runs(parser)
    add_arguments(parser.add_argument_group("evidence"), TypesConfig, skip=("seed", "types"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure or find the evidence, and write the report; the result names the files."""
    from scx_core.cli.evidence.questions.types import other_sets
    from scx_core.errors import ScxError
    from scx_core.evidence.by_type.answers import feature_answers
    from scx_core.evidence.by_type.measure import TypesConfig, evidence_of_types
    from scx_core.figures.report import write_report
    from scx_core.figures.report.files import ENDINGS
    from scx_core.validation import validation_beside

    if not str(args.out).lower().endswith(ENDINGS):
        raise ScxError(f"{args.out!r} is no report that can be written.", "Give a name on .html or .pdf.")
    common.check_out(args, args.out)
    tracer = common.open_tracer(args)
    label = common.type_of(args, tracer.table)
    cfg = from_namespace(TypesConfig, args)
    tell = common.progress_of(args)
    sets = other_sets(args, tracer)
    asked = {"others": sets, "root": args.runs, "also": args.also, "kept": not args.alone, "progress": tell}
    if not args.alone:
        feature_answers(tracer, label, args.runs, tell)
    found = evidence_of_types(tracer, [label], cfg, **asked).types[0]
    marks = {
        "data": tracer.table.fingerprint,
        "model": tracer.lm.fingerprint,
        "transcoders": tracer.transcoders.fingerprint,
    }
    written = write_report(found, args.out, validation_beside(tracer.transcoders.folder, marks))
    return {
        "files": [str(path) for path in written],
        "ladder": found.ladder.to_json(),
        "provenance": found.provenance,
    }


def summary(result: dict[str, Any]) -> str:
    """How far the claim got, and the files."""
    return "\n".join([f"The claim {result['ladder']['words']}.", *result["files"]])
