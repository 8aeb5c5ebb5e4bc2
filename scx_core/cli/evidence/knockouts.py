"""`scx knockouts`: what the real model loses when genes are taken out of its cells' sentences."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from scx_core.cli import common
from scx_core.cli.circuits import trace
from scx_core.runs import add_arguments, from_namespace

HELP = "measure what the model loses without a gene, in real runs of the model"

STRONGEST = 15  # genes that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits import ConsensusConfig, TraceConfig
    from scx_core.evidence import WAYS

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument("--cell", metavar="ROW", help="this one cell instead: its number or name")
    parser.add_argument(
        "--genes",
        nargs="+",
        metavar="GENE",
        help="only these genes: each alone, and all together (default: every gene of each sentence, alone)",
    )
    parser.add_argument(
        "--way",
        choices=WAYS,
        help="of all together: text (taken out, the rest moves up; the default), gap (a neutral gene in "
        "their place), end (moved behind all others), front (over-expression: moved, or put, to the front)",
    )
    trace.add_against(parser)
    common.add_inputs(parser)
    add_arguments(
        parser.add_argument_group("cells drawn"),
        ConsensusConfig,
        skip=("min_share", "nodes", "choice", "seed"),
    )
    skip = [name for name in TraceConfig.__dataclass_fields__ if name not in ("target", "token")]
    add_arguments(parser.add_argument_group("target"), TraceConfig, skip=skip)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Single knock-outs with their intervals, the values of every cell, and the joint edit of `--genes`."""
    from scx_core.circuits import ConsensusConfig, TraceConfig
    from scx_core.evidence import Editor, knock_out_all, knock_out_together
    from scx_core.evidence.knockouts.gene_tables import over_cells
    from scx_core.evidence.knockouts.measured_effects import to_rows
    from scx_core.evidence.knockouts.switch_off import switch_off_in
    from scx_core.statistics.resampling import one_group

    cfg, target = from_namespace(ConsensusConfig, args), from_namespace(TraceConfig, args)
    tracer = common.open_tracer(args)
    if args.cell is not None:
        rows = [tracer.table.row_of(args.cell)]
        answer = args.answer or args.type or tracer.predict(rows)[0]
    else:
        label = common.type_of(args, tracer.table)
        rows = [int(row) for row in tracer.draw(label, cfg)]
        answer = args.answer or tracer.answer_for(label)
    plan = tracer.plan(answer, args.against, target.target, target.token)
    editor, donors = Editor(tracer), tracer.donors(rows)
    shared: dict[str, Any] = {"editor": editor, "progress": common.progress_of(args)}
    result: dict[str, Any] = {"target": plan.label, "kind": plan.kind, "answer": answer, "n_cells": len(rows)}
    if args.genes:
        joint = knock_out_together(tracer, rows, plan, args.genes, way=args.way or "text", **shared)
        result["together"] = {"way": args.way or "text", "genes": args.genes} | _joint(
            joint, cfg.seed, donors
        )
        result["joint_cells"] = [one._asdict() for one in joint]
        result["switched_off"] = [
            switch_off_in(tracer, rows, plan, gene, way=args.way or "text", seed=cfg.seed).to_json()
            for gene in args.genes
            if any(gene in one.held for one in joint)
        ]
        if (args.way or "text") == "front" and not any(one.held for one in joint):
            return result | {"genes": [], "cells": []}
    found = knock_out_all(tracer, rows, plan, genes=args.genes, **shared)
    held = tracer.donors([one.row for one in found])  # cells without any of the genes are left out
    genes = over_cells(found, one_group(len(found), cfg.seed, held))
    result["genes"] = [_plain(gene) for gene in genes]
    result["cells"] = to_rows(found)
    return result


def _plain(gene: NamedTuple) -> dict[str, Any]:
    row = gene._asdict()
    return {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in row.items()}


def _joint(joint: list[Any], seed: int, donors: list[str] | None) -> dict[str, Any]:
    import numpy as np

    from scx_core.evidence.knockouts.gene_tables import held_means
    from scx_core.statistics.resampling import one_group

    values = np.array([[one.target, one.log_odds] for one in joint])
    names = sorted({name for one in joint for name in one.held})
    target, log_odds = held_means(values, one_group(len(joint), seed, donors))
    return {
        "target": target._asdict() if target else None,
        "log_odds": log_odds._asdict() if log_odds else None,
        "held_in": {name: sum(name in one.held for one in joint) for name in names},
    }


def _over_all(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The mean over all cells that were read, in the place of that over the gene's holders."""
    return found and {
        "mean": found["over_all"],
        "low": found["over_all_low"],
        "high": found["over_all_high"],
    }


def summary(result: dict[str, Any]) -> str:
    """The strongest genes with their intervals, and the joint edit."""
    from scx_core.attribution.target import unit_of
    from scx_core.circuits.circuit import LEAST_HOLDERS

    unit, spans = unit_of(result["kind"]), common.with_interval
    read = len({cell["row"] for cell in result["cells"]}) if result["cells"] else 0
    parts = [
        f"{result['target']} ({result['n_cells']} cells); lost without the gene: the mean over the {read} "
        "cells that hold any of these genes, 0 where one lacks the gene, with 95% intervals"
    ]
    least = min(LEAST_HOLDERS, read)
    genes = sorted(
        result["genes"], key=lambda gene: (gene["n_cells"] < least, -abs(gene["gap"]["over_all"]))
    )[:STRONGEST]
    measures = {"gap": f"gap, {unit}", "text": f"text, {unit}"}
    again = {"gap_log_odds": "gap, log-odds", "text_log_odds": "text, log-odds"}
    if any(gene[key] != gene[key.removesuffix("_log_odds")] for gene in genes for key in again):
        measures |= again  # else the target is the label's log-odds, and the same numbers would stand twice
    header, keys = ("gene", *measures.values(), "held by", "rank"), tuple(measures)
    rows = [
        (gene["gene"], *(spans(_over_all(gene[key])) for key in keys), gene["n_cells"], round(gene["rank"]))
        for gene in genes
    ]
    if rows:
        parts.append(common.columns(rows, header))
    if any(gene["n_cells"] < least for gene in result["genes"]):
        parts.append(f"Genes that fewer than {least} cells hold stand last.")
    if "together" in result:
        joint = result["together"]
        held = ", ".join(f"{name} in {n}" for name, n in joint["held_in"].items()) or "none of them in any"
        parts.append(
            f"All of {' '.join(joint['genes'])} at once ({joint['way']}): {spans(joint['target'])} {unit}"
            + ("" if joint["log_odds"] == joint["target"] else f", {spans(joint['log_odds'])} of log-odds")
            + f" lost. Cells that hold them: {held}."
        )
    for one in result.get("switched_off", ()):
        given = f"{one['given_before']} → {one['given_after']} of {one['n']} cells"
        parts.append(f"Without {one['gene']}: {one['words']} (mean probability; {one['answer']} in {given}).")
    parts.append("gap: a neutral gene in its place. text: taken out, the rest moves up. Nothing is frozen.")
    return "\n\n".join(parts)
