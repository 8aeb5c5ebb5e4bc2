"""`scx evidence stability`: is the circuit the same with other cells, donors, ties, prompts, sets, models?"""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace, to_dict

HELP = "is the circuit the same with other cells, donors, ties, prompts, transcoders and models?"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.stability import StabilityConfig

    parser.add_argument(
        "--type", action="append", help="cell type, may be given several times (default: the most frequent)"
    )
    parser.add_argument(
        "--prompts",
        action="append",
        default=[],
        metavar="PROMPT",
        help="another prompt, by name or as a text",
    )
    parser.add_argument(
        "--other", action="append", default=[], metavar="SET", help="another set of transcoders of the model"
    )
    parser.add_argument(
        "--other-model",
        action="append",
        nargs=2,
        default=[],
        metavar=("MODEL", "SET"),
        help="another model and its transcoders",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("stability"), StabilityConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/evidence.md has it")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every type, as JSON."""
    from scx_core.circuits import make_tracer
    from scx_core.evidence.stability import StabilityConfig, stability
    from scx_core.transcoders import load_set

    cfg, tracer = from_namespace(StabilityConfig, args), common.open_tracer(args)
    sets = [load_set(folder, tracer.lm.device, tracer.lm.dtype) for folder in args.other]
    models = []
    for model, folder in args.other_model:
        lm = common.open_language(argparse.Namespace(model=model, device=args.device))
        models.append(make_tracer(lm, load_set(folder, lm.device, lm.dtype), tracer.table))
    asked = {"prompts": args.prompts, "others": [one.fingerprint for one in sets]}
    asked["models"] = [[one.lm.fingerprint, one.transcoders.fingerprint] for one in models]

    def answer(label: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            progress = common.progress_of(args)
            more: dict[str, Any] = {"prompts": args.prompts, "sets": sets, "models": models}
            return stability(tracer, label, **more, cfg=cfg, progress=progress).to_json()

        config = {"type": label, "stability": to_dict(cfg)} | asked
        return common.answer_cached(args, "stability", tracer, config, make)

    found = [answer(label) for label in args.type or [common.type_of(args, tracer.table)]]
    return {"types": found, "markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """One row a type and change, and what was left out."""
    from scx_core.evidence.rankings.rankings import markdown, plain
    from scx_core.evidence.stability import stability_rows

    tables = [stability_rows(one) for one in result["types"]]
    table = markdown if result["markdown"] else plain
    left = {name: why for one in result["types"] for name, why in one["left_out"].items()}
    words = [f"Not changed: {name} ({why})." for name, why in left.items()]
    return "\n".join([table(tables[0][0], [row for _, rows in tables for row in rows]), *words])
