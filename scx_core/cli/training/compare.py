"""`scx compare`: training runs in one table and on one Pareto plot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import RunFolder, list_runs

HELP = "compare training runs in one table and one figure (CE recovered against L0)"
DESCRIPTION = f"{HELP}."

SHOWN = (
    "run", "form", "kind", "setting", "skip", "l0", "fvu", "ce_recovered", "kl", "dead", "label_agreement",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.figures import PARETO_FORMATS

    parser.add_argument(
        "run",
        nargs="*",
        metavar="RUN",
        help="folders of runs, or their names in --runs (default: all there); the first is what the others "
        "are held against",
    )
    common.add_runs(parser)
    parser.add_argument("--out", metavar="FOLDER", help="write the figure and the table there")
    parser.add_argument(
        "--formats",
        default=",".join(PARETO_FORMATS),
        metavar="A,B",
        help=f"among {', '.join(PARETO_FORMATS)} (default: all)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The table as rows, and the files written."""
    from scx_core.figures import export_comparison
    from scx_core.validation import compare_runs, comparison_provenance

    if args.out:
        common.check_out(args, args.out, folder=True)
    runs = _asked(args)
    table = compare_runs(runs)
    known = comparison_provenance(runs)
    formats = [name.strip() for name in args.formats.split(",") if name.strip()]
    files = export_comparison(table, args.out, known, formats) if args.out else []
    return {"runs": table.to_dict("records"), "files": [str(path) for path in files], "provenance": known}


def _asked(args: argparse.Namespace) -> list[RunFolder]:
    """The trainings of --runs, or the runs that were named; of a named build the trainings in it, and of
    another kind the run itself, which `compare_runs` refuses by name."""
    from scx_core.validation import trainings

    if not args.run:
        return trainings(list_runs(args.runs))
    found = []
    for path in map(Path, args.run):
        run = RunFolder.open(path if (path / "run.json").exists() else args.runs / path)
        found += trainings([run]) or [run]
    return found


def summary(result: dict[str, Any]) -> str:
    """The table, why some runs do not compare, and the files."""
    rows = [tuple(_shown(row[key]) for key in SHOWN) for row in result["runs"]]
    lines = [common.columns(rows, SHOWN)]
    not_comparable = [row for row in result["runs"] if not row["comparable"]]
    lines += [f"! {row['run']} does not compare with the first: {row['why_not']}" for row in not_comparable]
    training = [row["run"] for row in result["runs"] if row["measured"] == "while training"]
    lines += [f"! measured on a few cells while training: {', '.join(training)}"] if training else []
    return "\n".join([*lines, *result["files"]])


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value == "" or value != value else value
