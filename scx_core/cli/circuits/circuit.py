"""`scx circuit`: the circuit of a cell type, common to many of its cells."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.circuits import Circuit, Tracer
    from scx_core.circuits.stability import PromptAgreement

HELP = "trace the circuit of a cell type over many of its cells"


def options(parser: argparse.ArgumentParser) -> None:
    add_consensus(parser)
    parser.add_argument(
        "--prompts",
        action="append",
        metavar="NAMES",
        help="one consensus a prompt, and how far they agree: names with commas between, or all: every "
        "template that the checkpoint was trained on",
    )


def add_consensus(parser: argparse.ArgumentParser) -> None:
    """All options that make a consensus."""
    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument(
        "--steps", action="store_true", help="propose groups of features that act as one step"
    )
    trace.add_against(parser)
    trace.add_knockouts(parser)
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """What is read, and how a consensus is made of it."""
    from scx_core.circuits import ConsensusConfig, TraceConfig

    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("consensus"), ConsensusConfig, skip=("seed",))
    add_arguments(parser.add_argument_group("trace"), TraceConfig, skip=("nodes", "choice"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The consensus circuit as JSON; of several prompts, one each and how far they agree."""
    return agreement(args).to_json() if args.prompts else consensus(args).to_json()


def agreement(args: argparse.Namespace) -> PromptAgreement:
    """The circuits by prompt that the options ask for."""
    from scx_core.circuits.stability import prompt_agreement, prompts_of

    if args.steps or args.knockouts:
        raise ScxError("--prompts goes without --steps and --knockouts.", "Ask for them with one --prompt.")
    tracer, asked = _asked(args)
    return prompt_agreement(tracer, names=prompts_of(tracer.lm, args.prompts), **asked)


def consensus(args: argparse.Namespace) -> Circuit:
    """The consensus circuit that the options ask for."""
    from scx_core.circuits.supernodes import propose

    tracer, asked = _asked(args)
    found = trace.with_asked(args, tracer, tracer.consensus(**asked))
    return found._replace(supernodes=propose(found)) if args.steps else found


def _asked(args: argparse.Namespace) -> tuple[Tracer, dict[str, Any]]:
    """The tracer, and how it is asked for a consensus."""
    from scx_core.circuits import ConsensusConfig, TraceConfig

    settings = {"trace": from_namespace(TraceConfig, args), "cfg": from_namespace(ConsensusConfig, args)}
    tracer = common.open_tracer(args)
    target = {"label": common.type_of(args, tracer.table), "answer": args.answer, "against": args.against}
    return tracer, target | settings | {"progress": common.progress_of(args)}


def summary(result: dict[str, Any]) -> str:
    """The circuit in words; of several prompts, what each says and how far they agree."""
    if "agreement" not in result:
        label, answer = result["provenance"].get("cell_type", ""), result["target"]["answer"]
        whose = f"Cells of the type {label}; explained is the model's answer {answer}.\n\n"
        return (whose if label and answer and label != answer else "") + trace.summary(result)
    rows = []
    for one in result["prompts"]:
        called = one["called"]
        share = f"{called['k']} of {called['n']} ({called['low']:.0%} to {called['high']:.0%})"
        name = one["prompt"] if one["trained_on"] else f"{one['prompt']} *"
        rows.append((name[:32], f"{one['score']:.2f} {one['unit']}", share, " ".join(one["genes"][:6])))
    header = ("figure", "between prompts", "between halves of the cells")
    spans = [(one["what"], _span(one["pairs"]), _span(one["halves"])) for one in result["agreement"]]
    lines = [
        f"{result['label']}, explained as {result['answer']}: {result['n_cells']} cells, "
        f"{len(rows)} prompts, the same cells for each.",
        common.columns(rows, ("prompt", "score", "the model gives the answer", "strongest genes")),
    ]
    if not all(one["trained_on"] for one in result["prompts"]):
        lines.append("* The transcoders were trained on another prompt, and are used as they are.")
    lines.append(common.columns(spans, header))
    lines.append(
        f"Mean (least to most), over {len(result['pairs'])} pair(s) of prompts and {len(result['halves'])} "
        "pairs of random halves of the cells under one prompt: so much cells alone decide."
    )
    return "\n\n".join(lines)


def _span(values: list[float]) -> str:
    mean, least, most = values
    return "not defined" if mean != mean else f"{mean:.2f} ({least:.2f} to {most:.2f})"
