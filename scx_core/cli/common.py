"""What the commands share: options, and opening cells, model and transcoders as the options say."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.errors import ScxError
from scx_core.runs import (
    ConsoleProgress,
    Progress,
    RunFolder,
    add_arguments,
    from_namespace,
    runs_root,
    silent,
)
from scx_core.runs.files import check_target, is_there

if TYPE_CHECKING:
    from scx_core.cells import CellTable
    from scx_core.circuits import Tracer
    from scx_core.language import Language
    from scx_core.transcoders import TranscoderSet


def add_output(parser: argparse.ArgumentParser) -> None:
    """--json, --quiet, --seed."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the result as JSON; - is the standard output")
    group.add_argument("--quiet", action="store_true", help="no progress bars and no text")
    group.add_argument(
        "--seed", default=argparse.SUPPRESS, metavar="INT", help="seed of everything drawn here"
    )


def add_cells(parser: argparse.ArgumentParser) -> None:
    """--data and how its parts are chosen."""
    from scx_core.cells import CellChoices

    group = parser.add_argument_group("cells")
    group.add_argument(
        "--data",
        default="embedded",
        metavar="PATH",
        help=".h5ad, .zarr, 10x .h5, a folder with matrix.mtx, or planted: simulated "
        "cells with known rules (default: the embedded PBMCs)",
    )
    add_arguments(group, CellChoices)


def add_model(parser: argparse.ArgumentParser, sentences: bool = True) -> None:
    """--model and --device; with `sentences`, how cells are written for it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="embedded",
        metavar="FOLDER",
        help="model folder or Hugging Face hub id (default: the embedded model)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    if sentences:
        from scx_core.sentences import SentenceConfig

        add_arguments(parser.add_argument_group("sentences"), SentenceConfig, unsaid="as the model wants it")


def add_transcoders(parser: argparse.ArgumentParser) -> None:
    """--transcoders."""
    parser.add_argument_group("transcoders").add_argument(
        "--transcoders",
        default="embedded",
        metavar="FOLDER",
        help="folder of a trained set, or embedded-paper (default: the embedded set)",
    )
    parser.add_argument(
        "--as-is", action="store_true", help="use the set also on another text than it was trained on"
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Cells, model and transcoders: what every command that traces reads."""
    add_cells(parser)
    add_model(parser)
    add_transcoders(parser)


def add_runs(parser: argparse._ActionsContainer) -> None:
    """--runs."""
    words = "folder of all runs (default: $SCX_RUNS, else runs)"
    parser.add_argument("--runs", type=Path, default=runs_root(), metavar="FOLDER", help=words)


def add_run(parser: argparse.ArgumentParser) -> None:
    """--runs, --name: where a run's folder is made."""
    group = parser.add_argument_group("run")
    add_runs(group)
    group.add_argument("--name", help="name of this run's folder (default: the command and a number)")


def add_cached(parser: argparse.ArgumentParser) -> None:
    """--runs, --again: where results are found again."""
    group = parser.add_argument_group("results")
    add_runs(group)
    group.add_argument("--again", action="store_true", help="measure anew what was measured before")


def answer_cached(
    args: argparse.Namespace,
    question: str,
    tracer: Tracer,
    config: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    """`scx_core.evidence.by_type.answers.answered` with --runs and --again."""
    from scx_core.evidence.by_type.answers import answered

    return answered(question, tracer, config, make, args.runs, args.again)


def keep_answer(args: argparse.Namespace, question: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Put the answer of a question that finds its own way back (a folder of parts) beside the cached ones,
    by its provenance, so that reports and the page find it too. Returns the answer."""
    from scx_core.runs.cached_results import cached

    return cached(question, result["provenance"], lambda: result, runs=args.runs, again=True)


INPUTS = ("data", "labels_file", "model", "transcoders", "atlas", "circuit", "other_model", "first", "second")


def check_out(
    args: argparse.Namespace, where: Any, *, folder: bool = False, size: int | None = None, **more: Any
) -> None:
    """Whether the result can be written to `where`, asked before the work: a place that can be, enough space
    (`size` bytes, where it is known), and no file or folder that the command reads (`more`: others that it
    reads than the options say). Raises ScxError."""
    given = [*(getattr(args, name, None) for name in INPUTS), *more.values()]
    read = [one for one in given if isinstance(one, (str, Path)) and str(one)]
    check_target(where, folder=folder, size=size, inputs=read)


def progress_of(args: argparse.Namespace) -> Progress:
    """A bar on stderr, or silence."""
    return silent if getattr(args, "quiet", False) else ConsoleProgress()


def open_table(args: argparse.Namespace) -> CellTable:
    """The cells of --data."""
    from scx_core.cells import CellChoices, open_cells

    return open_cells(args.data, from_namespace(CellChoices, args))


def open_language(args: argparse.Namespace) -> Language:
    """The model of --model."""
    from transformers.utils import logging

    from scx_core.language import load_language
    from scx_core.sentences import SentenceConfig

    logging.disable_progress_bar()  # the environment's setting comes too late where it is imported already
    source, prompt = _of_data(args, args.model), getattr(args, "prompt", None)
    lm = load_language(source, args.device, prompt=prompt, progress=progress_of(args))
    wanted = from_namespace(SentenceConfig, args, lm.sentence_config)
    return lm if wanted == lm.sentence_config else replace(lm, wanted=wanted)


def open_transcoders(args: argparse.Namespace, lm: Language) -> TranscoderSet:
    """The set of --transcoders, where the model is and in its precision."""
    from scx_core.transcoders import load_set
    from scx_core.transcoders.check import opened_as_is

    found = load_set(_of_data(args, args.transcoders), lm.device, lm.dtype)
    return opened_as_is(lm, found) if getattr(args, "as_is", False) else found


def _of_data(args: argparse.Namespace, source: str) -> str:
    """The planted cells come with their own model and set, where no others are named."""
    return "planted" if source == "embedded" and getattr(args, "data", None) == "planted" else source


def open_tracer(args: argparse.Namespace) -> Tracer:
    """Cells, model and transcoders together, with what an atlas calls these features and what validation says
    of them, where there is one."""
    from scx_core.atlas.feature_naming import name_book
    from scx_core.circuits import make_tracer
    from scx_core.validation.standing import standing_of

    table = open_table(args)
    lm = open_language(args)
    coders = open_transcoders(args, lm)
    made_from = {"model": lm, "transcoders": coders, "data": table}
    runs = getattr(args, "runs", None)
    standing = standing_of(made_from, coders.folder, runs)
    return make_tracer(lm, coders, table, name_book(made_from, runs), standing)


def type_of(args: argparse.Namespace, table: CellTable) -> str:
    """The cell type of --type, else the most frequent one."""
    return args.type or str(table.cells_per_type().index[0])


def parse_feature(text: str) -> tuple[int, int]:
    """LAYER:NUMBER as numbers. Raises ScxError."""
    layer, colon, number = text.partition(":")
    if not (colon and layer.isdecimal() and number.isdecimal()):
        raise ScxError(f"{text[:40]!r} is no feature.", "Give LAYER:NUMBER, as 2:513.")
    return int(layer), int(number)


def absolute(source: str) -> str:
    """A path that still holds when a job is resumed elsewhere; words such as "embedded" and hub ids stay."""
    return str(Path(source).resolve()) if is_there(source) else source


def run_summary(run: RunFolder) -> dict[str, Any]:
    """Where a run is and how far."""
    status = run.status()
    return {"run": str(run.path), "name": run.name, "state": status.state, "steps": status.done}


def with_interval(found: Mapping[str, Any] | None) -> str:
    """A mean with its interval, "0.12 [0.10, 0.14]"; the mean alone where it has none."""
    if found is None:
        return "–"
    span = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['mean']:.2f}{span}"


def columns(rows: list[tuple[Any, ...]], header: tuple[str, ...]) -> str:
    """A plain table: the first column to the left, numbers to the right."""
    cells = [header, *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        first, *rest = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
