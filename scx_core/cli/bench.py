"""`scx bench`: how long things take on this machine, printed and, with --json, kept."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.cli.parser import Subparsers


def add(subparsers: Subparsers) -> argparse.ArgumentParser:
    """The command's parser."""
    words = "time the steps that a user waits for on this machine"
    return subparsers.add_parser("bench", help=words, description=f"{words.capitalize()}.", fill=_options)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=("circuits", "410m"),
        help="circuits: gene effects, a circuit, a consensus; 410m: random weights of that size",
    )
    parser.add_argument("--type", help="cell type (default: the most frequent)")
    common.add_cells(parser)
    common.add_model(parser)
    common.add_transcoders(parser)
    common.add_output(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time it."""
    from scx_core.bench import bench_410m, bench_circuits

    if args.what == "circuits":
        return bench_circuits(common.open_tracer(args), args.type)
    table, tokenizer = common.open_table(args), common.open_language(args).tokenizer
    device = "cuda" if args.device == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        return bench_410m(Path(folder) / "410m", table, tokenizer, device)


def summary(result: dict[str, Any]) -> str:
    """The timings as a table."""
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    if "rows" in result:
        header: tuple[str, ...] = ("what", "median s", "worst s", "runs")
        rows = [(row["what"], row["median_s"], row["worst_s"], row["runs"]) for row in result["rows"]]
    else:
        header = ("what", "seconds")
        rows = list(result["seconds"].items())
    table = common.columns(rows, header)
    last = (
        f"{result['tokens']} tokens; accounting error {result['max_relative_error']:.1e}; "
        f"peak memory {result['peak_memory_gib']:.1f} GiB"
    )
    return f"{where}\n{table}\n{last}"
