"""`scx paths`: the largest computational paths of one cell, from the answer or a feature down to tokens."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.runs import add_arguments, from_namespace

HELP = "follow the largest computational paths of one cell, as the seed paper traces them"

SHOWN = 12  # paths and genes that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import TraceConfig
    from scx_core.circuits.paths import PathConfig
    from scx_core.runs import options_of

    trace.add_cell(parser)
    parser.add_argument(
        "--from", dest="start", default="target", metavar="ID", help="target, or f:layer:position:feature"
    )
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("paths"), PathConfig)
    others = [opt.name for opt in options_of(TraceConfig) if opt.name not in ("target", "token")]
    add_arguments(parser.add_argument_group("trace"), TraceConfig, skip=others)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The tree of kept steps with its account."""
    from scx_core.attribution.endpoints import parse_ref
    from scx_core.circuits import TraceConfig
    from scx_core.circuits.paths import PathConfig, trace_paths
    from scx_core.circuits.traced_prompt import prompt_of_row

    config, tracing = from_namespace(PathConfig, args), from_namespace(TraceConfig, args)
    tracer = common.open_tracer(args)
    row = tracer.table.row_of(args.cell)
    prompt = prompt_of_row(tracer, row, args.type, args.against, tracing)
    found = trace_paths(prompt, parse_ref(args.start, prompt.frozen), config)
    return found.to_json() | {"genes": found.genes().to_dict("records")}


def summary(result: dict[str, Any]) -> str:
    """The account, the largest paths, the genes at their ends."""
    account, steps = result["account"], result["steps"]
    parts = [f"{account[name]:+.3f} {words}" for name, words in _PARTS]
    ends = [i for i, step in enumerate(steps) if step["open"] or step["kind"] == "embedding"]
    ends.sort(key=lambda i: -abs(steps[i]["contribution"]))
    chains = [f"{steps[i]['contribution']:+9.4f}  {_chain(steps, i)}" for i in ends[:SHOWN]]
    genes = [(row["gene"], row["contribution"], row["paths"]) for row in result["genes"][:SHOWN]]
    return "\n\n".join(
        [
            f"{result['label']}: {account['value']:.3f} {result['unit']} (one cell)\n= {' '.join(parts)}",
            "\n".join([f"the largest of {len(ends)} kept paths:", *chains]),
            common.columns(genes, ("gene", "contribution", "paths")),
        ]
    )


_PARTS = (
    ("tokens", "paths that end at tokens"),
    ("open", "paths cut by the depth"),
    ("pruned", "pruned"),
    ("error", "transcoder error"),
    ("bias", "bias"),
)


def _chain(steps: list[dict[str, Any]], end: int) -> str:
    """ "target ← L3·512 CD79A ← head 2.1 CD74 ← CD74"."""
    from scx_core.circuits.paths import PathStep

    words = []
    while end >= 0:
        words.append(PathStep(**steps[end]).words)
        end = steps[end]["parent"]
    return " ← ".join(reversed(words))
