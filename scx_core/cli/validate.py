"""`scx validate`: may the stand-ins be trusted? Losses, KL, sparsity and labels on held-out cells."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from scx_core.cli import common
from scx_core.cli.parser import Subparsers
from scx_core.runs import add_arguments, from_namespace, option

LOSSES = ("ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "ce_recovered", "kl")
OTHERS = ("l0", "fvu", "dead", "label_accuracy_orig", "label_accuracy_transcoder", "label_agreement")


@dataclass(frozen=True)
class ValidateConfig:
    """How much is measured."""

    cells: int = option(0, "Held-out cells, drawn with the seed; 0 takes all", minimum=0)
    batch: int = option(8, "Cells at a time", minimum=1)
    per_layer: bool = option(True, "Also replace each layer alone (two more passes a layer)")
    seed: int = option(0, "Seed that draws the cells", minimum=0)


def add(subparsers: Subparsers) -> argparse.ArgumentParser:
    """The command's parser."""
    words = "measure how faithfully transcoders stand in for the MLPs"
    return subparsers.add_parser("validate", help=words, description=f"{words.capitalize()}.", fill=_options)


def _options(parser: argparse.ArgumentParser) -> None:
    common.add_cells(parser)
    common.add_model(parser)
    common.add_transcoders(parser)
    add_arguments(parser.add_argument_group("validation"), ValidateConfig, skip=("seed",))
    common.add_output(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The validation table with its warnings."""
    from scx_core.validation import PAPER, draw_rows, held_out_rows, validate, verdict

    config = from_namespace(ValidateConfig, args)
    table = common.open_table(args)
    lm = common.open_language(args)
    transcoders = common.open_transcoders(args, lm)
    rows = held_out_rows(lm, transcoders, table)
    if config.cells:
        rows = draw_rows(rows, config.cells, config.seed)
    found = validate(
        lm,
        transcoders,
        table,
        rows,
        batch=config.batch,
        per_layer=config.per_layer,
        progress=common.progress_of(args),
    )
    return found.to_json() | {"verdict": verdict(found), "paper": dict(PAPER)}


def summary(result: dict[str, Any]) -> str:
    """The table beside the seed paper's figures, by layer and token class, the warnings, the verdict."""
    paper = result["paper"]
    rows = [(name, result[name], paper.get(name)) for name in (*LOSSES, *OTHERS)]
    lines = [
        f"{result['n_cells']} held-out cells, {result['n_tokens']} tokens, every MLP replaced at once",
        common.columns(rows, ("", "here", "seed paper")),
    ]
    layers = result["per_layer"]
    lines.append(common.columns([tuple(layer.values()) for layer in layers], tuple(layers[0])))
    classes = result["by_token_class"]
    header = ("token class", *next(iter(classes.values())))
    lines.append(common.columns([(name, *row.values()) for name, row in classes.items()], header))
    lines += [f"! {caution['text']} {caution['remedy']}" for caution in result["warnings"]]
    return "\n\n".join([*lines, result["verdict"]])
