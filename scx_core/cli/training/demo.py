"""`scx demo`: the embedded model's reasons for a few cell types; `scx demo build`: make such a model anew;
`scx demo planted`: methods scored on simulated cells whose rules are known."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core import places
from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, add_arguments, from_dict, from_namespace, start

if TYPE_CHECKING:
    from scx_core.build import BuildConfig

HELP = (
    "show the strongest genes of each cell type; `demo build` trains a model and its transcoders; "
    "`demo planted` scores circuits, knock-outs and rivals on simulated cells whose rules are known"
)

STRONGEST = 10  # genes a type that are held against the marker lists


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.build import BuildConfig
    from scx_core.build.recipe import RecipeConfig
    from scx_core.circuits import ConsensusConfig
    from scx_core.evidence.planted_truth import PlantedConfig
    from scx_core.sentences import SentenceConfig

    parser.add_argument("action", nargs="?", choices=("show", "build", "planted"), default="show")
    common.add_cells(parser)
    common.add_model(parser, sentences=False)
    common.add_transcoders(parser)
    show = parser.add_argument_group("show")
    show.add_argument(
        "--type",
        action="append",
        help="cell type, may be given several times (default: all with known markers)",
    )
    trace.add_knockouts(show)
    add_arguments(show, ConsensusConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("planted"), PlantedConfig, skip=("cells", "seed"))
    build = parser.add_argument_group("build")
    build.add_argument("--run", metavar="FOLDER", help="begin or go on with the build in this folder")
    build.add_argument("--detach", action="store_true", help="build in the background and return at once")
    build.add_argument(
        "--install",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="copy what was built there, as the embedded model lies in `models` (the default of FOLDER in a "
        "checkout; an installed package is not written to)",
    )
    add_arguments(build, BuildConfig, skip=("data", "name", "device"))
    add_arguments(parser.add_argument_group("build: sentences"), SentenceConfig)
    add_arguments(parser.add_argument_group("build: model"), RecipeConfig, skip=("seed",))
    common.add_run(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Show, build or score."""
    return {"show": _show, "build": _build, "planted": _planted}[args.action](args)


def _planted(args: argparse.Namespace) -> dict[str, Any]:
    """Methods scored on the planted cells, whatever --data says: nowhere else is the truth known."""
    from scx_core.cells import PLANTED
    from scx_core.evidence.planted_truth import PlantedConfig, score_planted

    args.data = PLANTED
    config = from_namespace(PlantedConfig, args)
    return score_planted(common.open_tracer(args), config, common.progress_of(args))


def _show(args: argparse.Namespace) -> dict[str, Any]:
    from scx_core.cells.markers import foreign_markers, known_markers
    from scx_core.circuits import ConsensusConfig
    from scx_core.circuits.marker_counts import counts_of
    from scx_core.figures.table import held_by_few, leading, led

    config = from_namespace(ConsensusConfig, args)
    tracer = common.open_tracer(args)
    answered = tracer.table.answer_of or {}  # a type without an answer has no circuit of its own
    named = [name for name in tracer.table.types if known_markers(name) and answered.get(name)]
    types = args.type or named
    found: dict[str, Any] = {}
    for name in types:
        circuit = tracer.consensus(name, cfg=config, progress=common.progress_of(args))
        circuit = trace.with_asked(args, tracer, circuit)
        by = leading(circuit)
        shown = {gene.gene: one.effect for gene in circuit.genes if (one := led(gene, by))}
        raising = [gene for gene in circuit.genes if shown.get(gene.gene, 0.0) > 0]
        genes = sorted(
            raising, key=lambda gene: (held_by_few(circuit, gene, by), -shown[gene.gene], gene.gene)
        )[:STRONGEST]
        symbols = [gene.gene for gene in genes]
        known = known_markers(name)
        markers = [symbol for symbol in symbols if known and symbol in known.genes]
        counts = counts_of(circuit)
        found[name] = {
            "genes": [gene.to_json() | {"marker": gene.gene in markers} for gene in genes],
            "markers": markers,
            "marker_counts": counts and counts._asdict(),
            "markers_of_others": foreign_markers(symbols, name, tracer.table.types),
            "n_cells": circuit.n_cells,
            "max_relative_error": circuit.accounting["max_relative_error"],
        }
    return {"types": found, "model": tracer.lm.name, "data": tracer.table.name}


def _build(args: argparse.Namespace) -> dict[str, Any]:
    from scx_core.build import BuildConfig, build, install, new_build
    from scx_core.build.card import metrics_table
    from scx_core.build.pipeline import MODELS
    from scx_core.cells import PLANTED

    if args.install == "" and places.installed():
        raise ScxError("An installed package is not written to.", "Name a folder: --install FOLDER.")
    folder = RunFolder.open(args.run) if args.run else new_build(_config(args), args.name, args.runs)
    if args.detach:
        start(folder)
        return common.run_summary(folder)
    figures = build(folder, common.progress_of(args))
    if figures is None:
        raise KeyboardInterrupt(f"stopped; `scx demo build --run {folder.path}` goes on")
    config = from_dict(BuildConfig, folder.config)
    result = common.run_summary(folder) | {
        "metrics": figures,
        "table": metrics_table(figures, config.preset_names),
    }
    if args.install is not None:
        shipped = config.data in ("embedded", PLANTED)
        name = config.data if shipped else config.name or Path(config.data).stem
        target = Path(args.install) if args.install else MODELS
        result["installed"] = [str(path) for path in install(folder, target, name)]
    return result


def _config(args: argparse.Namespace) -> BuildConfig:
    """What the options ask for; the embedded model comes with the paper's preset beside its own."""
    from scx_core.build import BuildConfig
    from scx_core.build.config import embedded_config, planted_config
    from scx_core.build.recipe import RecipeConfig
    from scx_core.cells import PLANTED, CellChoices
    from scx_core.sentences import SentenceConfig

    typed = {key: value for key, value in vars(args).items() if value is not None}
    if args.data in ("embedded", PLANTED):
        typed.pop("name", None)  # of the run's folder; what ships has a name
    given = argparse.Namespace(**typed)
    shipped = {"embedded": embedded_config, PLANTED: planted_config}
    base = shipped.get(args.data, BuildConfig)()
    return dataclasses.replace(
        from_namespace(BuildConfig, given, base),
        data=common.absolute(args.data),
        cells=from_namespace(CellChoices, args),
        sentences=from_namespace(SentenceConfig, args, base.sentences),
        recipe=from_namespace(RecipeConfig, args, base.recipe),
    )


def summary(result: dict[str, Any]) -> str:
    """The strongest genes of each type with their markers, or the figures of a build."""
    if "rules" in result:
        return _scores(result)
    if "types" in result:
        blocks = [
            f"{result['model']} on {result['data']}; known markers of the type stand in [brackets]. Their "
            "count says nothing alone: it stands beside those of two rankings without a model."
        ]
        for name, found in result["types"].items():
            genes = [f"[{gene['gene']}]" if gene["marker"] else gene["gene"] for gene in found["genes"]]
            blocks.append(
                f"{name} ({found['n_cells']} cells): {', '.join(genes)}\n"
                f"  {_beside(found['marker_counts'])}; {len(found['markers_of_others'])} of the circuit's "
                "mark other types"
            )
        return "\n\n".join(blocks)
    if "metrics" not in result:
        return f"{result['name']} is built in the background; its folder is {result['run']}"
    where = result.get("installed", [result["run"]])
    return "\n\n".join([result["table"], "Written to " + ", ".join(where)])


def _beside(counts: dict[str, Any] | None) -> str:
    """The three counts of known markers, or that there is no list."""
    from scx_core.circuits.marker_counts import MarkerCounts, count_words

    return "no list of known markers" if counts is None else count_words(MarkerCounts(**counts))


def _scores(result: dict[str, Any]) -> str:
    """The model's answers, then what each method finds of every rule, with intervals."""
    from scx_core.evidence.planted_truth import WORDS

    answers = result["answers"]
    lines = ["Simulated cells with known rules (nothing here is biology)"]
    for name, found in answers["accuracy"].items():
        same = answers["agreement"][name]
        lines.append(f"label accuracy, {name}: {_share(found)}; agrees with the model in {_share(same)}")
    worst = min(answers["truth_table"].items(), key=lambda item: item[1]["share"])
    lines.append(f"worst row of a truth table, {worst[0]}: {_share(worst[1])}; guessing has 0.500")
    rows: list[tuple[Any, ...]] = []
    for rule in result["rules"].values():
        for name, score in rule["scores"].items():
            flips = "–" if score["flips"] is None else _interval(score["flips"])
            rows.append((rule["words"], WORDS[name], _interval(score["recovered"]), flips, score["n"]))
    for name, mean in result["mean"].items():
        flips = "–" if mean["flips"] is None else f"{mean['flips']:.2f}"
        rows.append(("mean of the rules", WORDS[name], f"{mean['recovered']:.2f}", flips, "–"))
    table = common.columns(rows, ("rule", "method", "recovered", "flips (AUROC)", "cells"))
    follows = ", ".join(
        f"{rule['words']} {_share(rule['model_follows'])}" for rule in result["rules"].values()
    )
    return "\n".join([*lines, "", table, "", f"the model follows the rule without one gene: {follows}"])


def _share(found: dict[str, float]) -> str:
    return f"{found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['n']}"


def _interval(found: Any) -> str:
    middle, low, high = found
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"
