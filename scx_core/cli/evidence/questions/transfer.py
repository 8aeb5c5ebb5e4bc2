"""`scx evidence transfer`: a model trained on one study, held against others that it never saw."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

HELP = "train a model on one study and ask it about others that it never saw"
DESCRIPTION = (
    "A small model and its transcoders are trained on the cells of one study. On others: its answers "
    "beside logistic regression, the genes and features of its circuits against permutations, its "
    "transcoders "
    "beside some that are trained there, and the features that tell the study, with what the answer does "
    "without them. Every file has a column cell_type in one vocabulary. Everything lies in one "
    "folder; started again, "
    "it goes on where it stopped."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.build.transfer import TransferBuild
    from scx_core.evidence.studies.transfer import TransferConfig

    group = parser.add_argument_group("studies")
    group.add_argument("--train", metavar="FILE", required=True, help="cells that the model is trained on")
    group.add_argument("--on", metavar="FILE", nargs="+", required=True, help="cells of other studies")
    group.add_argument(
        "--there", metavar="NAME", nargs="*", default=[],
        help="names of other studies (their file's name) on which transcoders are trained too",
    )  # fmt: skip
    group.add_argument(
        "--build", metavar="FOLDER",
        help="a build on cells of the training study (scx demo build), to use it and not to make one",
    )  # fmt: skip
    common.add_run(parser)
    add_arguments(parser.add_argument_group("model"), TransferBuild)
    add_arguments(parser.add_argument_group("comparison"), TransferConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/evidence.md has them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The comparison, as JSON."""
    from scx_core.build.transfer import TransferBuild, run_transfer
    from scx_core.evidence.studies.transfer import TransferConfig

    for name in (args.train, *args.on):
        if not Path(name).exists():
            raise ScxError(f"There is no file {name}.", "Give files of cells.")
    folder = Path(args.runs) / (args.name or "transfer")
    found = run_transfer(
        folder,
        args.train,
        args.on,
        from_namespace(TransferBuild, args),
        from_namespace(TransferConfig, args),
        args.there,
        Path(args.build) if args.build else None,
        common.progress_of(args),
    )
    if found is None:
        raise KeyboardInterrupt(f"stopped; the same command goes on in {folder}")
    return common.keep_answer(args, "transfer", found.to_json()) | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The tables of the comparison."""
    from scx_core.evidence.studies.transfer_tables import transfer_tables

    return transfer_tables(result, result["markdown"])
