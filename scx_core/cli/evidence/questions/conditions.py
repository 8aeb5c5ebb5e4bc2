"""`scx evidence conditions`: which features and genes tell two conditions of a cell type apart."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

HELP = "which features and genes tell two conditions of one cell type apart, against a known answer"
DESCRIPTION = (
    "Features, attributions, sentences and expression of a cell type's cells in two conditions, held against "
    "a gene set that is known to answer, beside differential expression and random halves of one condition."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.biology.conditions import ConditionConfig

    group = parser.add_argument_group("conditions")
    group.add_argument("--column", required=True, help="column of obs with the conditions")
    group.add_argument("--reference", required=True, metavar="VALUE", help="the condition to compare with")
    group.add_argument("--condition", required=True, metavar="VALUE", help="the other condition")
    group.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    group.add_argument("--answer", help="the model's name for that type, where it differs")
    group.add_argument(
        "--sets", metavar="FILE", required=True, help="GMT file (or marker table) of gene sets"
    )
    group.add_argument("--set", metavar="NAME", required=True, help="the gene set that should answer")
    group.add_argument(
        "--genes", nargs="+", metavar="GENE", default=[], help="genes whose places are printed"
    )
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("study"), ConditionConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/evidence.md has them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The study, as JSON."""
    from scx_core.atlas import open_gene_sets
    from scx_core.cells.choices import did_you_mean
    from scx_core.evidence.biology.conditions import ConditionConfig, conditions

    sets = {one.name: one.genes for one in open_gene_sets(args.sets).sets}
    if args.set not in sets:
        raise ScxError(f"{args.sets} has no gene set {args.set!r}.", did_you_mean(args.set, list(sets)))
    tracer = common.open_tracer(args)
    found = conditions(
        tracer,
        common.type_of(args, tracer.table),
        args.column,
        args.reference,
        args.condition,
        (args.set, sets[args.set]),
        answer=args.answer,
        named=args.genes,
        cfg=from_namespace(ConditionConfig, args),
        progress=common.progress_of(args),
    )
    return found.to_json() | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The tables of the study."""
    from scx_core.evidence.biology.condition_tables import condition_tables

    return condition_tables(result, result["markdown"])
