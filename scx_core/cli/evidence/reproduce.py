"""`scx reproduce`: the seed paper's three experiments, its figures beside those of any model and cells."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "the seed paper's three experiments, its figures beside those of this model and these cells"
DESCRIPTION = (
    "Losses, random live features of the middle layer, the endothelial circuit (arXiv 2509.14723). With the "
    "paper's model and cells: --model vandijklab/C2S-Pythia-410m-cell-type-prediction --data PATH.h5ad, and "
    "a set that `scx train` made for them; --dry-run goes the same way on files that it writes itself."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.reproduce import ReproduceConfig

    parser.add_argument(
        "--type", help="cell type of the circuit (default: endothelial cells, or an analogue)"
    )
    parser.add_argument(
        "--genes", metavar="A,B,C", help="its genes (default: VWF,PTPRB,SPARCL1, or an analogue's)"
    )
    parser.add_argument("--atlas", type=Path, metavar="FOLDER", help="an atlas of the same features")
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("experiments"), ReproduceConfig, skip=("seed",))
    dry = parser.add_argument_group("dry run")
    dry.add_argument(
        "--dry-run",
        type=Path,
        metavar="FOLDER",
        help="write a checkpoint and an .h5ad of the paper's form into this new folder (1.6 GB) and go the "
        "whole way on few cells; the options above do not count",
    )
    dry.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json for the checkpoint")
    for name, words in (("layers", "blocks (24)"), ("width", "width (1024)"), ("heads", "heads (16)")):
        dry.add_argument(f"--{name}", type=int, metavar="N", help=f"{words} of the checkpoint")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The three experiments, as JSON; of a dry run with what it wrote."""
    from scx_core.atlas import Atlas
    from scx_core.evidence.reproduce import ReproduceConfig, reproduce

    if args.dry_run is not None:
        from scx_core.bench.dry_run import DryRunConfig, dry_run

        named = {name: getattr(args, name) for name in ("layers", "width", "heads")}
        cfg = DryRunConfig(**{name: value for name, value in named.items() if value is not None})
        return dry_run(args.dry_run, args.tokenizer, cfg, progress=common.progress_of(args)).to_json()
    genes = [gene.strip().upper() for gene in args.genes.split(",")] if args.genes else None
    found = reproduce(
        common.open_tracer(args),
        args.type,
        genes,
        from_namespace(ReproduceConfig, args),
        atlas=Atlas.open(args.atlas) if args.atlas else None,
        progress=common.progress_of(args),
    )
    return found.to_json()


def summary(result: dict[str, Any]) -> str:
    """The paper's figures beside those of here."""
    from scx_core.evidence.reproduce import reproduction_text

    if "found" not in result:
        return reproduction_text(result)
    written = (
        f"Dry run: random weights and counts, so that no figure below says anything. "
        f"{result['parameters']:,} weights, {result['tokens']} tokens a cell, tokenizer: "
        f"{result['tokenizer']}."
    )
    return f"{written}\n\n{reproduction_text(result['found'])}"
