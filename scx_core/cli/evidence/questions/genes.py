"""`scx evidence genes`: lists of genes knocked out and over-expressed, alone and together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace, to_dict
from scx_core.statistics.resampling import interval_words

HELP = "knock out and over-express lists of genes, alone and together, beside random genes of the same ranks"
SHOWN = 15  # genes of a list that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.knockouts.gene_lists import GeneListConfig

    parser.add_argument("--type", help="cell type, as the file calls it (default: the most frequent)")
    parser.add_argument("--answer", help="the model's name for that type, where it differs")
    parser.add_argument("--genes", nargs="+", metavar="GENE", help="a list of genes")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="lists: one symbol a line (# begins a comment), or a GMT file",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("lists"), GeneListConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What every list does, as JSON."""
    from scx_core.evidence.knockouts.gene_lists import GeneListConfig, edit_gene_lists, read_gene_lists

    lists = read_gene_lists(args.file) if args.file else {}
    lists |= {"genes": list(dict.fromkeys(args.genes))} if args.genes else {}
    if not lists:
        raise ScxError("No gene is given.", "Give --genes, or --file with a list.")
    tracer, cfg = common.open_tracer(args), from_namespace(GeneListConfig, args)
    label = common.type_of(args, tracer.table)

    def make() -> dict[str, Any]:
        progress = common.progress_of(args)
        return edit_gene_lists(tracer, label, lists, answer=args.answer, cfg=cfg, progress=progress).to_json()

    config = {"type": label, "answer": args.answer, "lists": lists, "gene_lists": to_dict(cfg)}
    return common.answer_cached(args, "genes", tracer, config, make)


def summary(result: dict[str, Any]) -> str:
    """A line a list and edit, the strongest genes alone, and what is said of absent genes."""
    spans = common.with_interval
    rows = [
        (
            f"{one['name']}: {one['does']}",
            len(one["genes"]),
            round(one["held"], 1),
            spans(one["effect"]),
            f"{spans(one['random'])} ({one['random_least']:.2f} to {one['random_most']:.2f})",
            spans(one["ahead"]),
            one["q"],
        )
        for one in result["edits"]
    ]
    alone = [
        (
            f"{gene['gene']}: {one['does']}",
            f"{gene['held']} of {result['n']}",
            spans(gene["effect"]),
            gene["q"],
        )
        for one in result["edits"]
        for gene in sorted(one["alone"], key=lambda gene: -abs(gene["effect"]["mean"]))[:SHOWN]
    ]
    header = ("list", "genes", "held", "log-odds", "random (least to most)", "ahead", "q")
    absent = [f"{gene}: {words}." for gene, words in result["absent"]]
    parts = [
        f"{result['answer']}: log-odds {spans(result['before'])} in {result['n']} cells of "
        f"{result['label']}; change by the edit [{interval_words(result['units'])} over {result['units']}]",
        common.columns(rows, header),
        common.columns(alone, ("alone", "held by", "log-odds", "q")),
        *(["\n".join(absent)] if absent else []),
        "Knock-out: out of the sentence, the next genes move up. Over-expression: to the front. Random: "
        f"{result['draws']} draws of genes of the same ranks. Nothing is frozen. True of the model; of "
        "biology it says nothing.",
    ]
    return "\n\n".join(parts)
