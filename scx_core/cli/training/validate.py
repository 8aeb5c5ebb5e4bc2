"""`scx validate`: may the stand-ins be trusted? Losses, KL, sparsity and labels on held-out cells."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace, option

HELP = "measure how well transcoders stand in for the MLPs, beside what has no features"

LOSSES = ("ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "ce_recovered", "kl")
OTHERS = (
    "l0", "fvu", "dead", "label_accuracy_orig", "label_accuracy_transcoder", "balanced_accuracy_orig",
    "balanced_accuracy_transcoder", "label_agreement",
)  # fmt: skip


@dataclass(frozen=True)
class ValidateConfig:
    """How much is measured."""

    baselines: bool = option(True, "Also measure stand-ins without features, and logistic regression")

    cells: int = option(0, "Test cells, drawn with the seed; 0 takes all", minimum=0)
    batch: int = option(8, "Cells at a time", minimum=1)
    per_layer: bool = option(True, "Also replace each layer alone (two passes a layer, from that layer on)")
    layer_cells: int = option(
        -1,
        "Test cells on which each layer is replaced alone, drawn with a fixed seed; 0 takes all, -1 all of a "
        "small model's, and of a large one's as many as take a minute or so on a processor",
        minimum=-1,
    )
    seed: int = option(0, "Seed that draws the cells", minimum=0)


def options(parser: argparse.ArgumentParser) -> None:
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("validation"), ValidateConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The validation table with its warnings."""
    from scx_core.claims.of_model import validation_claims
    from scx_core.validation import PAPER, validate, validation_rows, validation_work, verdict
    from scx_core.validation.standing import keep_validation

    config = from_namespace(ValidateConfig, args)
    table = common.open_table(args)
    lm = common.open_language(args)
    transcoders = common.open_transcoders(args, lm)
    rows = validation_rows(lm, transcoders, table, config.cells, config.seed)
    sampled = None if config.layer_cells < 0 else config.layer_cells
    work = validation_work(
        lm,
        transcoders,
        table,
        rows.test,
        fit=rows.train if config.baselines else (),
        per_layer=config.per_layer,
        layer_cells=sampled,
    )
    if not args.quiet:
        print(work.words(), file=sys.stderr, flush=True)
    found = validate(
        lm,
        transcoders,
        table,
        rows.test,
        train_rows=rows.train if config.baselines else None,
        split=rows.words,
        batch=config.batch,
        per_layer=config.per_layer,
        layer_cells=sampled,
        progress=common.progress_of(args),
    )
    keep_validation(found)  # circuits and figures of this set say what it says
    claims = [claim.to_json() for claim in validation_claims(found)]
    return found.to_json() | {"verdict": verdict(found), "claims": claims, "paper": dict(PAPER)}


def summary(result: dict[str, Any]) -> str:
    """The table with its intervals beside the seed paper's figures, what could do as well, by layer and token
    class, the warnings, the verdict."""
    from scx_core.validation.result import layer_words

    paper, spans = result["paper"], result["intervals"]
    rows = [(name, result[name], _span(spans.get(name)), paper.get(name)) for name in (*LOSSES, *OTHERS)]
    lines = [
        f"{result['n_cells']} test cells, {result['n_tokens']} tokens, every MLP replaced at once. "
        f"95% intervals: shares by Wilson, others by bootstrap over {result['drawn_over']}.",
        result["split"],
        common.columns(rows, ("", "here", "95% interval", "seed paper")),
    ]
    if result["baselines"]:
        lines.append(_beside(result))
    layers = result["per_layer"]
    lines.append(common.columns([tuple(layer.values()) for layer in layers], tuple(layers[0])))
    marked = [(layer["ce"], layer.get("mark", "")) for layer in layers]
    if words := layer_words(result["n_cells"], result.get("layer_cells", 0), marked):
        lines.append(words)
    classes = result["by_token_class"]
    header = ("token class", *next(iter(classes.values())))
    lines.append(common.columns([(name, *row.values()) for name, row in classes.items()], header))
    lines += [f"! {caution['text']} {caution['remedy']}" for caution in result["warnings"]]
    return "\n\n".join([*lines, result["verdict"]])


def _beside(result: dict[str, Any]) -> str:
    """What could do as well: stand-ins without features, and logistic regression."""
    names = ("ce_recovered", "kl", "label_accuracy", "label_agreement")
    own = {
        "name": "transcoders",
        **{name: result[name] for name in names[:2]},
        "label_accuracy": result["label_accuracy_transcoder"],
        "label_agreement": result["label_agreement"],
        "intervals": result["intervals"]
        | {"label_accuracy": result["intervals"]["label_accuracy_transcoder"]},
    }
    rows = [
        (row["name"], *(f"{row[name]:.3f} {_span(row['intervals'][name])}" for name in names))
        for row in (own, *result["baselines"])
    ]
    lines = [common.columns(rows, ("in place of the MLPs", "CE recovered", "KL", "accuracy", "agreement"))]
    if logistic := result["logistic"]:
        ahead, span = logistic["ahead"], logistic["ahead_interval"]
        who = "neither is ahead for certain"
        if span["low"] is not None and (span["low"] > 0 or span["high"] < 0):
            who = "the model is ahead" if ahead > 0 else "the regression is ahead"
        lines.append(
            f"Logistic regression on {logistic['n_genes']} genes, fitted on {logistic['n_train']} training "
            f"cells: accuracy {logistic['accuracy']:.3f} {_span(logistic['accuracy_interval'])}, balanced "
            f"{logistic['balanced_accuracy']:.3f}; model less regression {ahead:+.3f} {_span(span)}: {who}."
        )
    return "\n".join(lines)


def _span(interval: dict[str, float | None] | None) -> str:
    """An interval in brackets; "" for none."""
    if not interval or interval["low"] is None:
        return ""
    return f"[{interval['low']:.3f}, {interval['high']:.3f}]"
