"""`scx heads`: which attention heads carry the circuit of one cell, and each of its edges."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace, option

HELP = "split the edges of one cell's circuit by attention head"

HEADER = ("head", "last", "alone", "attention", "rank", "it looks at")
SHOWN = 8  # heads of the whole circuit that the text shows


@dataclass(frozen=True)
class HeadsConfig:
    """How much is shown of each edge."""

    edges: int = option(4, "The strongest edges of the circuit from one position to another", minimum=1)
    heads: int = option(5, "Heads of an edge, by what goes through them last", minimum=1)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import TraceConfig

    trace.add_cell(parser)
    parser.add_argument(
        "--edge",
        action="append",
        metavar="SOURCE,TARGET",
        help="an edge by the ids of its ends, as t:41,f:2:60:513 or f:2:60:513,target; may be given several "
        "times (default: the strongest)",
    )
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("heads"), HeadsConfig)
    add_arguments(parser.add_argument_group("trace"), TraceConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What the heads carry of the circuit, and of some of its edges."""
    from scx_core.circuits import TraceConfig
    from scx_core.circuits.head_tables import circuit_edge_heads, circuit_heads, strongest_edges

    config, tracing = from_namespace(HeadsConfig, args), from_namespace(TraceConfig, args)
    named = [_edge(text) for text in args.edge or ()]
    tracer = common.open_tracer(args)
    row = tracer.table.row_of(args.cell)
    circuit = tracer.cell(row, label=args.type, against=args.against, cfg=tracing)
    edges = named or strongest_edges(circuit, config.edges)
    found = circuit_edge_heads(tracer, circuit, edges, config.heads)
    return {
        "target": circuit.to_json()["target"] | {"unit": circuit.target.unit},
        "circuit": circuit_heads(tracer, circuit).to_json(),
        "edges": [edge.to_json() for edge in found],
        "provenance": circuit.provenance,
    }


def _edge(text: str) -> tuple[str, str]:
    source, comma, target = text.partition(",")
    if not comma:
        raise ScxError(
            f"{text[:80]!r} is no edge.", "Give SOURCE,TARGET with ids as in the JSON of `scx trace`."
        )
    return source.strip(), target.strip()


def summary(result: dict[str, Any]) -> str:
    """What the heads carry of the circuit; then each edge by path length and head."""
    target, whole = result["target"], result["circuit"]
    shares = [f"{whole[name] / whole['whole']:.0%} {words}" for name, words in _LENGTHS]
    rows = [
        (f"{head['layer']}.{head['head']}", head["through"], f"{head['share']:.0%}")
        for head in whole["heads"][:SHOWN]
    ]
    return "\n\n".join(
        [
            f"{target['label']}: {target['value']:.3f} {target['unit']} (one cell)\n"
            f"{whole['n_edges']} edges, in absolute values: {', '.join(shares)}",
            common.columns(rows, ("head", "carries alone", "of all edges")),
            *(_edge_text(edge) for edge in result["edges"]),
            "last: paths that pass this head last; alone: those that pass no other.\n"
            "rank: the source's among the positions that the head looks at.",
        ]
    )


_LENGTHS = (("direct", "through no head"), ("one_head", "through one"), ("more", "through two and more"))


def _edge_text(edge: dict[str, Any]) -> str:
    ends = []
    for end in ("source", "target"):
        gene, name = edge[f"{end}_gene"], edge[f"{end}_name"]
        about = ", ".join(part for part in (name, f"at {gene}" if name and gene else gene) if part)
        ends.append(f"{edge[end]} ({about})" if about else edge[end])
    head = (
        f"{' → '.join(ends)}: {edge['weight']:+.3g} = {edge['direct']:+.3g} direct "
        f"{edge['one_head']:+.3g} through one head {edge['more']:+.3g} through more"
    )
    rows = [_head_row(part) for part in edge["heads"]]
    return f"{head}\n{common.columns(rows, HEADER)}"


def _head_row(part: dict[str, Any]) -> tuple[Any, ...]:
    from scx_core.circuits.head_tables import AttendedPosition

    seen = [AttendedPosition(**looked) for looked in part["looks"][:3]]
    looks = ", ".join(f"{looked.name} {looked.weight:.0%}" for looked in seen)
    name = f"{part['layer']}.{part['head']}"
    return name, part["last"], part["contribution"], part["attention"], part["rank"], looks
