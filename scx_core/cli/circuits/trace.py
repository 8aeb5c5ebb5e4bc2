"""`scx trace`: the circuit of one cell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.circuits import Circuit, Tracer

HELP = "trace the circuit of one cell"

STRONGEST = 15  # genes that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import TraceConfig

    add_cell(parser)
    parser.add_argument(
        "--feature",
        metavar="LAYER:NUMBER[:TOKEN]",
        help="explain a transcoder feature instead (without a token, at the last where it is active)",
    )
    add_knockouts(parser)
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("trace"), TraceConfig)


def add_cell(parser: argparse.ArgumentParser) -> None:
    """--cell, --type, --against: which cell, and which answer is explained."""
    parser.add_argument(
        "--cell", metavar="ROW", help="number of the cell in the file, or its name (default: the first)"
    )
    parser.add_argument("--type", help="answer to explain (default: what the model calls the cell)")
    add_against(parser)


def add_knockouts(parser: argparse._ActionsContainer) -> None:
    """--knockouts, --estimate."""
    parser.add_argument(
        "--knockouts",
        action="store_true",
        help="measure what the real model loses without each gene, both ways (see `scx knockouts`)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="estimate these knock-outs from slopes of the real model, where measuring each is too long",
    )


def with_asked(args: argparse.Namespace, tracer: Tracer, circuit: Circuit) -> Circuit:
    """The circuit with what --knockouts and --estimate ask for; the genes are then ranked by it."""
    measured, estimate = getattr(args, "knockouts", False), getattr(args, "estimate", False)
    if not (measured or estimate):
        return circuit
    from scx_core.evidence import with_knockouts
    from scx_core.evidence.knockouts.measured_effects import SINGLE_WAYS

    ways = SINGLE_WAYS if measured else ()
    show = common.progress_of(args)
    return with_knockouts(tracer, circuit, ways=ways, estimate=estimate, progress=show)


def add_against(parser: argparse.ArgumentParser) -> None:
    """--against."""
    parser.add_argument(
        "--against",
        action="append",
        metavar="TYPE",
        help="competitor, may be given several times (default: all other types)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The circuit as JSON: with the model and transcoder folders enough to recompute every edge."""
    from scx_core.circuits import TraceConfig

    config = from_namespace(TraceConfig, args)
    tracer = common.open_tracer(args)
    row = tracer.table.row_of(args.cell)
    if args.feature is not None:
        layer, number, position = _feature(args.feature)
        return tracer.feature(row, layer, number, position, config).to_json()
    found = tracer.cell(row, label=args.type, against=args.against, cfg=config)
    return with_asked(args, tracer, found).to_json()


def _feature(text: str) -> tuple[int, int, int | None]:
    """LAYER:NUMBER or LAYER:NUMBER:TOKEN. Raises ScxError."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise ScxError(f"{text[:40]!r} is no feature.", "Give LAYER:NUMBER or LAYER:NUMBER:TOKEN, as 2:513.")
    return int(parts[0]), int(parts[1]), int(parts[2]) if len(parts) == 3 else None


def summary(result: dict[str, Any]) -> str:
    """What is explained, the strongest genes, how much is accounted for."""
    from scx_core.attribution.target import unit_of
    from scx_core.circuits.circuit import Circuit
    from scx_core.circuits.words.wording import circuit_sentences, statistics_sentences

    target, scores = result["target"], result["scores"]
    genes = sorted(result["genes"], key=lambda gene: (-abs(gene["effect"]), gene["gene"]))[:STRONGEST]
    one = result["scope"] == "cell"
    keys = ("gene", "effect", "rank") if one else ("gene", "effect", "low", "high", "q", "share", "rank")
    names = {
        "effect": "frozen attribution",
        "gap": "lost: neutral gene",
        "text": "lost: rest moved up",
        "estimate": "lost: estimated",
    }
    measured = [key for key in ("gap", "text", "estimate") if any(gene.get(key) for gene in genes)]
    header = (keys[0], *measured, *keys[1:])
    if measured:
        by = measured[0]
        known = [gene for gene in result["genes"] if gene.get(by)]
        genes = sorted(known, key=lambda gene: (-abs(gene[by]["mean"]), gene["gene"]))[:STRONGEST]

    def shown(value: Any) -> Any:
        return common.with_interval(value) if isinstance(value, dict) else value

    kinds = [node["kind"] for node in result["nodes"]]
    of = "one cell" if one else f"{result['n_cells']} cells"
    circuit = Circuit.from_json(result)
    return "\n\n".join(
        [
            f"{target['label']}: {target['value']:.3f} {unit_of(target['kind'])} ({of})",
            common.columns(
                [tuple(shown(gene[key]) for key in header) for gene in genes],
                tuple(names.get(key, key) for key in header),
            ),
            "\n".join(
                [
                    *circuit_sentences(circuit),
                    *(statistics_sentences(circuit) if circuit.scope == "consensus" else ()),
                ]
            ),
            f"{kinds.count('feature')} features, {len(result['edges'])} edges; replacement score "
            f"{scores['replacement']:.2f}, completeness {scores['completeness']:.2f}; accounting error "
            f"{result['accounting']['max_relative_error']:.1e}",
        ]
    )
