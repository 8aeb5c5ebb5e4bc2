"""`scx bench`: how long things take on this machine, printed and, with --json, kept.

What compares or stresses (kills, memory, pareto, recipes) lies in `benchmarks`, which stands beside the
package in a checkout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from scx_core.cli import common
from scx_core.cli.evidence.smallest import WORDS, ahead, remains
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace, option, runs_root

if TYPE_CHECKING:
    from scx_core.bench.machine import Lap

HELP = "time the steps that a user waits for on this machine"

PARETO = (
    "kind", "wanted_l0", "tuned", "l0", "ce_recovered", "kl", "fvu", "dead", "label_agreement", "closed",
)  # fmt: skip
MEMORY = {
    "file_gb": "file GB", "opened_s": "open s", "first_step_s": "first step s", "all_s": "all s",
    "opened_gib": "opened GiB", "peak_gib": "peak GiB",
}  # fmt: skip
SENTENCES = {
    "rank": "ranked", "symbols": "as symbols", "plain": "plain recipe", "ratio": "ranked / plain",
    "tokens": "as tokens", "plain_tokens": "plain, tokens", "tokens_ratio": "tokens / plain",
}  # fmt: skip

LAP = ("wall_s", "cpu_s", "peak_gib")

BENCHMARKS = (
    "circuits", "trace", "smallest", "410m", "sentences", "train", "memory", "kills", "atlas",
    "atlas-input", "pareto", "recipes", "jobs",
)  # fmt: skip


@dataclass(frozen=True)
class BenchConfig:
    """What some of the benchmarks take."""

    times: int = option(20, "kills: how often the training is killed", minimum=1)
    seeds: int = option(
        1, "smallest: draws of cells to search in; from 2 on ratios of sizes are given, with their range"
    )
    steps: int = option(30, "train: steps that are timed; pareto: steps of a run, 1200 there", minimum=1)
    kind: Literal["topk", "batchtopk", "jumprelu", "relu"] = option("topk", "train: the gate")
    precision: Literal["auto", "float32", "bfloat16", "fastest"] = option("auto", "train: of the model")
    cells: int = option(704_000, "atlas-input: cells of the file", minimum=500)
    compression: Literal["none", "lzf", "gzip"] = option("none", "atlas-input: of the file")
    k: int = option(32, "train: active features a token", minimum=1)
    expansion: int = option(8, "train: features per width", minimum=1)
    layers: int = option(24, "410m: layers of the random model", minimum=2)
    genes: int = option(114, "410m: genes of the sentence, about four tokens each", minimum=1)
    nodes: int = option(384, "410m: features that may become nodes", minimum=1)
    edges: int = option(0, "410m: edges that are held against plain autograd in float64", minimum=0)
    tokens: int = option(
        0, "410m: of a prompt of random tokens, whose graph alone is timed (0: a cell's sentence)", minimum=0
    )
    waves: int = option(
        0, "410m --tokens: waves of rows of edges that are filled, evenly taken (0: all)", minimum=0
    )
    modes: str = option(
        "",
        "410m: instead, the accounting error, seconds and peak of each mode of tracing: all, or names with "
        "commas between",
    )
    consensus: int = option(0, "410m: cells of a consensus in two steps, none if 0", minimum=0)


GRAPHS = ("case", "nodes", "freeze", "choose", "edges", "cut", "all (s)", "peak GiB", "error")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=BENCHMARKS,
        help="circuits: gene effects, a circuit, a consensus; trace: attribution graphs at the reference "
        "shape and at 410m dimensions; smallest: the searched circuit's size beside the influence cut's; "
        "410m: random weights of that size, from the folder to a circuit; sentences: cells a second from a "
        "matrix to ranked genes and to tokens, beside the plain recipe; memory: peaks of a training on "
        "20,000 and on 200,000 made-up cells; train: tokens a second in training, and where the time goes; "
        "kills: a training that is killed at random moments and resumed, held against the unbroken one; "
        "atlas: making a feature atlas by steps, and reading a generated one of 24 × 8,192 features; "
        "atlas-input: a made-up .h5ad of --cells cells × 32,000 genes (8 GB, in the folder for temporary "
        "files) opened, split by donor, written as tokens, trained on and resumed by two processes; "
        "pareto: every kind of set at several sparsities, trained and measured; recipes: small models by "
        "how much of what their MLPs do linear maps do as well (--only NAME, --runs); jobs: what training, "
        "tuning, validation, sentences, activations, a smallest circuit, rankings, evidence (its curves), a "
        "shared file, an atlas and a match take at 410m dimensions (--only NAME)",
    )
    parser.add_argument("--type", help="cell type (default: the most frequent)")
    parser.add_argument(
        "--peer-python",
        metavar="PYTHON",
        help="interpreter of an environment with eai-sparsify (train), to be timed on the same tokens, or "
        "with circuit-tracer (trace), on the same graphs",
    )
    add_arguments(parser, BenchConfig)
    with suppress(ScxError):
        _pareto_options(parser)
    common.add_inputs(parser)


def _benchmark(name: str) -> ModuleType:
    """A module of `benchmarks`. Raises ScxError where the package is installed without it."""
    from scx_core.bench.machine import benchmark_file

    root = str(benchmark_file(f"{name}.py").parent.parent)
    if root not in sys.path:  # the current folder may be another
        sys.path.insert(0, root)
    return import_module(f"benchmarks.{name}")


def _pareto_options(parser: argparse.ArgumentParser) -> None:
    """The options of the table; its steps are --steps."""
    config = _benchmark("pareto").ParetoConfig
    group = parser.add_argument_group("pareto: every kind at several sparsities")
    add_arguments(group, config, skip=("steps", "seed"))
    group.add_argument(
        "--only", action="append", default=[], metavar="KIND:L0",
        help="train and measure only this cell of the table now, such as topk:8 (may be given several times)",
    )  # fmt: skip
    group.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="where its runs are (default: pareto in the folder of runs)",
    )
    group.add_argument("--figure", type=Path, metavar="FOLDER", help="draw it, and write it as CSV, there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time it."""
    from scx_core import bench

    progress, cfg = common.progress_of(args), from_namespace(BenchConfig, args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        match args.what:
            case "circuits":
                return bench.bench_circuits(common.open_tracer(args), args.type)
            case "trace":
                return bench.bench_trace(common.open_tracer(args), peer_python=args.peer_python)
            case "smallest":
                tracer = common.open_tracer(args)
                return bench.bench_smallest(tracer, args.type, seeds=cfg.seeds, progress=progress)
            case "sentences":
                return bench.bench_sentences(common.open_language(args).tokenizer)
            case "train":
                return _train(args, cfg)
            case "atlas":
                table, lm = common.open_table(args), common.open_language(args)
                return bench.bench_atlas(folder, lm, common.open_transcoders(args, lm), table)
            case "atlas-input":
                from scx_core.bench.atlas_file import AtlasShape
                from scx_core.bench.atlas_input import bench_atlas_input

                shape = AtlasShape(
                    cfg.cells, compression=None if cfg.compression == "none" else cfg.compression
                )
                return bench_atlas_input(folder, args.model, shape, progress=progress)
            case "410m":
                from scx_core.language import pick_device

                if cfg.modes:
                    from scx_core.bench.modes import bench_modes

                    sizes = {name: getattr(cfg, name) for name in ("nodes", "layers", "genes")}
                    return bench_modes(cfg.modes, **sizes, progress=progress, told=_mode_teller(args))
                if cfg.tokens:
                    sizes = {name: getattr(cfg, name) for name in ("tokens", "nodes", "layers", "waves")}
                    return bench.bench_long(pick_device(args.device), **sizes, told=_teller(args))
                table, tokenizer = common.open_table(args), common.open_language(args).tokenizer
                device = str(pick_device(args.device))
                asked = ("nodes", "layers", "genes", "edges", "consensus")
                sizes = {name: getattr(cfg, name) for name in asked}
                return bench.bench_410m(
                    folder / "410m", table, tokenizer, device, **sizes, told=_teller(args)
                )
            case "jobs":
                table = common.open_table(args)
                return bench.bench_jobs(folder, table, args.only, progress, _teller(args))
            case "memory":
                return _benchmark("memory").bench_memory(progress)
            case "kills":
                seed = int(getattr(args, "seed", 0))
                return _benchmark("kills").bench_kills(folder, cfg.times, seed, progress)
            case "recipes":
                recipes = _benchmark("recipes")
                return recipes.bench_recipes(args.runs or runs_root() / "recipes", args.only, progress)
            case _:
                return _pareto(args)


def _say(args: argparse.Namespace, line: str) -> None:
    """A line on stderr, at once: what a run that is stopped leaves behind."""
    if not getattr(args, "quiet", False):
        print(line, file=sys.stderr, flush=True)


def _teller(args: argparse.Namespace) -> Callable[[Lap], None]:
    """Says each lap as it ends."""

    def tell(lap: Lap) -> None:
        figures = f"{lap.wall_s:.1f} s, {lap.cpu_s:.1f} processor s, peak {lap.peak_gib:.2f} GiB"
        _say(args, f"{lap.what}: {figures}")

    return tell


def _mode_teller(args: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """Says each mode as it ends."""

    def tell(row: dict[str, Any]) -> None:
        if "error" in row:
            _say(args, f"{row['mode']}: {row['error']}")
        else:
            error, cpu, peak = (row[key] for key in ("max_relative_error", "all_cpu_s", "peak_gib"))
            _say(args, f"{row['mode']}: error {error:.1e}, {cpu:.1f} processor s, peak {peak:.2f} GiB")

    return tell


def _train(args: argparse.Namespace, cfg: BenchConfig) -> dict[str, Any]:
    from scx_core.bench.training import bench_training
    from scx_core.training.config import TranscoderConfig

    coder = TranscoderConfig(kind=cfg.kind, k=cfg.k, expansion=cfg.expansion)
    lm, table = common.open_language(args), common.open_table(args)
    return bench_training(lm, table, coder, cfg.steps, peer_python=args.peer_python, precision=cfg.precision)


def _pareto(args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure what is missing of the table, then tabulate."""
    from scx_core.cells import CellChoices
    from scx_core.training.config import TrainingJob

    pareto = _benchmark("pareto")
    cfg = from_namespace(pareto.ParetoConfig, args)
    lm, table = common.open_language(args), common.open_table(args)
    job = TrainingJob(
        sentences=lm.sentence_config,
        model=common.absolute(args.model),
        data=common.absolute(args.data),
        device=args.device,
        cells=from_namespace(CellChoices, args),
    )
    root, progress = args.runs or runs_root() / "pareto", common.progress_of(args)
    return pareto.bench_pareto(job, lm, table, root, cfg, args.only, args.figure, progress)


def summary(result: dict[str, Any]) -> str:
    """The machine, then the figures as a table: each benchmark has a key of its own."""
    words = {
        "recipes": lambda found: _benchmark("recipes").table_of(found["recipes"]),
        "pareto": _pareto_text,
        "tokens_per_second": _training_text,
        "graphs": _graphs_text,
        "memory": _memory_text,
        "atlas_input": _atlas_input_text,
        "sentences": _sentences_text,
        "kills": _kills_text,
        "smallest": _smallest_text,
        "making": _atlas_text,
        "jobs": _jobs_text,
        "modes": _modes_text,
    }
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    text = next((words[key] for key in words if key in result), _seconds_text)
    return f"{where}\n{text(result)}"


def _seconds_text(result: dict[str, Any]) -> str:
    if "rows" in result:
        header: tuple[str, ...] = ("what", "median s", "worst s", "runs")
        rows = [(row["what"], row["median_s"], row["worst_s"], row["runs"]) for row in result["rows"]]
    elif "laps" in result:
        header = ("what", "s", "processor s", "peak GiB")
        rows = [(row["what"], *(f"{row[key]:.1f}" for key in LAP)) for row in result["laps"]]
    else:
        header, rows = ("what", "seconds"), list(result["seconds"].items())
    last = (
        f"{result['tokens']} tokens; accounting error {result['max_relative_error']:.1e}; "
        f"peak memory {result['peak_memory_gib']:.1f} GiB"
    )
    if "tracing_peak_gib" in result:
        last += f" ({result['loading_peak_gib']:.1f} of loading, {result['tracing_peak_gib']:.1f} of tracing)"
    if "edges" in result:
        found = result["edges"]
        last += (
            f"; {found['edges']} edges into {found['rows']} rows within {found['max_error']:.1e} of the "
            f"row's largest of autograd in float64, within {found['max_own_error']:.1e} of themselves"
        )
    if "consensus" in result:
        found = result["consensus"]
        last += (
            f"; a consensus of {found['cells']} cells with {found['features']} features, accounting error "
            f"{found['max_relative_error']:.1e}"
        )
    if "patterns" in result:
        last += (
            f"; attention patterns {result['patterns']}; {result['active']:,} active features, edges into "
            f"{result['rows_share']:.1%} of {result['nodes']:,} nodes"
        )
    if "together_faster" in result:
        last += f"; many cells together {result['together_faster']:.1f} times faster than one by one"
    return f"{common.columns(rows, header)}\n{last}"


def _kills_text(result: dict[str, Any]) -> str:
    words = "the same bits as" if result["identical"] else "OTHER WEIGHTS OR FIGURES THAN"
    return (
        f"killed {result['kills']} times ({result['in_writes']} of them while a checkpoint was "
        f"written) and resumed, the training of {result['steps']} steps ended with {words} the unbroken "
        f"one; {result['seconds']['killed']:.0f} s against {result['seconds']['unbroken']:.0f} s"
    )


def _pareto_text(result: dict[str, Any]) -> str:
    """The table, what is missing of it, and the files."""
    rows = [tuple(_shown(row[key]) for key in PARETO) for row in result["pareto"]]
    settings = result["settings"]
    lines = [
        f"{result['model']}: {settings['steps']} steps, tuned: {settings['finetune_steps']} more with all "
        "layers together; every MLP replaced, on held-out cells; closed: share of the remaining CE gap that "
        "the tuning closes",
        common.columns(rows, PARETO),
    ]
    lines += [f"! not trained yet: {', '.join(result['missing'])}"] if result["missing"] else []
    return "\n".join([*lines, *result["files"]])


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else value


def _memory_text(result: dict[str, Any]) -> str:
    rows = [(f"{row['cells']:,}", *(f"{row[key]:.2f}" for key in MEMORY)) for row in result["memory"]]
    table = common.columns(rows, ("cells", *MEMORY.values()))
    return f"{table}\nthe larger file takes {result['difference_mb']:.0f} MB more"


def _atlas_input_text(result: dict[str, Any]) -> str:
    rows = []
    for row in result["atlas_input"]:
        speed = row.get("cells_per_cpu_second")
        rows.append(
            (
                row["what"],
                f"{row['seconds']:.1f}",
                f"{row['cpu_seconds']:.1f}",
                "" if speed is None else f"{speed:,.0f}",
                f"{row['peak_gib']:.2f}",
            )
        )
    table = common.columns(rows, ("step", "seconds", "CPU seconds", "cells a CPU second", "peak GiB"))
    return (
        f"{result['cells']:,} made-up cells × {result['genes']:,} genes, {result['detected']:,} above 0 a "
        f"cell, {result['file_gb']:.2f} GB\n{table}"
    )


def _sentences_text(result: dict[str, Any]) -> str:
    rows = [(row["genes"], *(f"{row[key]:,.1f}" for key in SENTENCES)) for row in result["sentences"]]
    table = common.columns(rows, ("genes in a sentence", *SENTENCES.values()))
    return f"cells a second of one core, {result['detected']:,} genes above 0 in each cell\n{table}"


def _training_text(result: dict[str, Any]) -> str:
    coder, atlas = result["transcoder"], result["atlas"]
    lines = [
        f"{result['model']}: {result['layers']} layers of width {result['width']}, {coder['kind']} "
        f"{coder['k']}, {coder['expansion']} times as many features, "
        f"{result['tokens_a_step']:,} tokens a step; the model in {result['precision']}",
        f"{result['tokens_per_second']:,.0f} tokens a second; "
        f"peak memory {result['peak_memory_gib']:.2f} GiB; "
        f"{result['share_of_peak_flops']:.0%} of the {result['peak_flops'] / 1e9:,.0f} GFLOP/s that a large "
        "product reaches here",
        "of the time: " + ", ".join(f"{name} {share:.0%}" for name, share in result["split"].items()),
        f"one pass over 704,000 cells of 200 genes ({atlas['tokens_per_cell']:.0f} tokens each): "
        f"{atlas['minutes']:,.0f} minutes",
    ]
    if "peer" in result:
        peer = result["peer"]
        lines.append(
            f"{peer['peer']} {peer['version']}: {peer['tokens_per_second']:,.0f} tokens a second; "
            f"{result['ratio']:.2f} times as fast as it; without the revival of dead features, which it does "
            f"not have here, {result['tokens_per_second_alike']:,.0f}: {result['ratio_alike']:.2f} times; "
            f"by processor seconds {result['ratio_processor']:.2f} and {result['ratio_alike_processor']:.2f}"
        )
    return "\n".join(lines)


def _jobs_text(result: dict[str, Any]) -> str:
    """Each job's stages, its peak, and what it says of itself."""
    rows, notes = [], []
    for job in result["jobs"]:
        name = job["job"]
        rows += [
            (f"{name}: {stage['what']}", *(f"{stage[key]:.1f}" for key in LAP)) for stage in job["stages"]
        ]
        rest = {key: value for key, value in job.items() if key not in ("job", "stages", "peak_gib")}
        said = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in rest.items())
        notes.append(f"{name}: peak {job['peak_gib']:.1f} GiB; {said}")
    return "\n".join([common.columns(rows, ("job and stage", "wall s", "processor s", "peak GiB")), *notes])


def _modes_text(result: dict[str, Any]) -> str:
    """One row a mode."""
    header = ("mode", "", "layers", "tokens", "accounting error", "wall s", "processor s", "peak GiB")
    rows = [
        (
            *(row[key] for key in ("mode", "what", "layers", "tokens")),
            f"{row['max_relative_error']:.1e}",
            *(f"{row[key]:.1f}" for key in ("wall_s", "cpu_s", "peak_gib")),
        )
        for row in result["modes"]
        if "error" not in row
    ]
    failed = [f"{row['mode']}: {row['error']}" for row in result["modes"] if "error" in row]
    table = common.columns(rows, header)
    return "\n".join([f"at most {result['nodes']} nodes of features", table, *failed])


def _atlas_text(result: dict[str, Any]) -> str:
    """Making, by steps, and reading."""
    whole = sum(result["making"].values())
    made = [(what, f"{seconds:.1f}", f"{seconds / whole:.0%}") for what, seconds in result["making"].items()]
    read = [(row["what"], f"{row['median_s']:.3f}", f"{row['worst_s']:.3f}") for row in result["rows"]]
    forward = ", ".join(f"{share:.0%} {what}" for what, share in result["forward_share"].items())
    peaks = ", ".join(
        f"{peak:.2f} ({what.replace('_', ' ')})" for what, peak in result["making_peak_gib"].items()
    )
    return "\n".join(
        [
            common.columns(made, ("making, processor seconds", "s", "share")),
            f"{result['cells']} cells in {result['wall_s']:.0f} s; the model's forward pass among the steps "
            f"of the pass: {forward}; peak memory, GiB: {peaks}",
            common.columns(read, (f"reading {result['features']:,} features", "median s", "worst s")),
        ]
    )


def _smallest_text(result: dict[str, Any]) -> str:
    """For each type what remains without features, every node set, and what it keeps in unseen cells."""
    from scx_core.bench.smallest import smallest_table

    keys = ("search", "unseen", "low", "high", "closeness", "whole")
    rows, notes = [], []
    for row in result["smallest"]:
        mark = " (faint)" if row["faint"] else ""
        for name, one in row["sets"].items():
            kept = ["–" if one[key] is None else f"{one[key]:.3f}" for key in keys]
            rows.append((f"{row['type']}: {WORDS[name]}{mark}", one["size"], *kept))
        about = {**row, "cells": {"unseen": range(row["verified"])}}
        notes.append(
            f"{row['type']}: {remains(about)}; {row['searched']} cells searched, {row['verified']} others "
            f"verified, {row['seconds']:.0f} s. {ahead(row)}"
            + (f" Faint: {'; '.join(row['added']['faint'])}." if mark else "")
        )
    table = common.columns(rows, ("node set", "nodes", *keys))
    return "\n".join([table, *notes, result["influence_cut"], smallest_table(result)])


def _graphs_text(result: dict[str, Any]) -> str:
    keys = ("freeze_s", "choose_s", "edges_s", "cut_s", "total_s")
    rows = [
        (
            row["case"],
            row["nodes"],
            *(f"{row[key]:.3f}" for key in keys),
            f"{row['peak_gib']:.2f}",
            f"{row['max_relative_error']:.1e}",
        )
        for row in result["graphs"]
    ]
    text = common.columns(rows, GRAPHS)
    if "big" in result:
        big = result["big"]
        text += (
            f"\n{big['case']}: {big['nodes']} nodes, {big['active']:,} active features; "
            f"{big['rows_share']:.1%} of the rows in {big['edges_s']:.1f} s, all of them in "
            f"{big['edges_s_all_rows']:.0f} s; peak {big['peak_gib']:.1f} GiB; "
            f"accounting error {big['max_relative_error']:.1e}"
        )
    if "peer" in result:
        peer = result["peer"]
        text += "".join(
            f"\n{peer['peer']} {peer['version']}, (a) with {row['nodes']:,} nodes: {row['seconds']:.2f} s "
            f"with {row['batch']} rows at a time, {row['ratio']:.0f} times as long as here "
            f"({row['ours']:.3f} s, "
            f"before and after it); edges into the target from the {row['both']:,} features that both chose "
            f"are within {row['apart']:.1e} of the largest"
            for row in peer["rows"]
        )
    return text
