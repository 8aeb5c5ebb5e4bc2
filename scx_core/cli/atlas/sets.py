"""`scx sets`: gene sets of an atlas' features, with their controls."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.cli.atlas import features
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.atlas import Atlas

HELP = "test the features of an atlas against gene sets, and judge them anew"

SHOWN = 15  # features in the summary


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.atlas import EnrichConfig

    parser.add_argument(
        "--sets",
        action="append",
        metavar="SOURCE",
        help="a GMT file, a CSV or TSV of markers, 'markers' (those that ship with scX) or gseapy:LIBRARY "
        "(online); may be given again (default: markers)",
    )
    parser.add_argument("--type-column", metavar="NAME", help="of a marker table: the column of cell types")
    parser.add_argument("--gene-column", metavar="NAME", help="of a marker table: the column of genes")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="also write the sets as a GMT file")
    add_arguments(parser.add_argument_group("enrichment"), EnrichConfig, skip=("seed",))
    features.add_atlas(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Put the sets into the atlas; what was found, and the sets of each feature."""
    from scx_core.atlas import EnrichConfig, MarkerColumns, open_gene_sets, with_gene_sets, write_gmt

    cfg = from_namespace(EnrichConfig, args)
    if args.keep is not None:
        common.check_out(args, args.keep)
    atlas = features.open_atlas(args)
    organism = str(atlas.meta.get("organism") or "Homo sapiens")
    columns = MarkerColumns(args.type_column, args.gene_column)
    collection = open_gene_sets(args.sets or ["markers"], organism, columns)
    if args.keep is not None:
        write_gmt(collection, args.keep)
    judged = with_gene_sets(atlas, collection, cfg)
    return {
        "atlas": str(judged.folder) if judged.folder else None,
        **judged.meta["gene_sets"],
        "threshold": judged.meta["thresholds"]["gene_set"],
        "verdicts": _verdicts(judged),
        "beside": {
            name: other.meta["gene_sets"] | {"verdicts": _verdicts(other)}
            for name, other in judged.beside.items()
        },
        "features": judged.table("sets").to_dict("records"),
    }


def _verdicts(atlas: Atlas) -> dict[str, float]:
    """The share of gene-set features by kind of data, over all layers."""
    rows = atlas.shares[(atlas.shares["layer"] == -1) & (atlas.shares["verdict"] == "gene set")]
    return {str(data): float(share) for data, share in zip(rows["data"], rows["share"], strict=True)}


def summary(result: dict[str, Any]) -> str:
    """What fits, the shares with their null, and the clearest sets."""
    lines = [*result["notes"], *([result["warning"]] if result["warning"] else [])]
    chance = "by permuted names"
    lines.append(
        f"{result['tested_features']} features × {result['tested_sets']} sets; with a significant set "
        f"{result['enriched']:.1%} of the live features, {chance} {result['enriched_by_chance']:.2%}"
    )
    lines += _rule(result.get("rule") or [])
    lines += [f"verdict gene set, {data}: {share:.2%}" for data, share in result["verdicts"].items()]
    for name, other in result["beside"].items():
        shares = ", ".join(f"{data} {share:.2%}" for data, share in other["verdicts"].items())
        found = f"{other['enriched']:.1%}, {chance} {other['enriched_by_chance']:.2%}"
        lines.append(f"{name}: with a significant set {found}; verdict gene set: {shares}")
    seen: dict[tuple[int, int], dict[str, Any]] = {}
    for row in result["features"]:
        seen.setdefault((row["layer"], row["feature"]), row)
    best = sorted(seen.values(), key=lambda row: (row["p"], row["layer"], row["feature"]))[:SHOWN]
    rows = [(_name(row), row["gene_set"][:50], row["q"], row["share"], row["genes"][:60]) for row in best]
    table = common.columns(rows, ("feature", "set", "q", "share", "genes"))
    return "\n".join([*lines, "", table] if rows else lines)


def _rule(rows: list[dict[str, Any]]) -> list[str]:
    """The field's rule beside its rivals."""
    if not rows:
        return []
    from scx_core.atlas.judge.excess import points

    head = "Rule of the field (3 of the 10 strongest genes in one set of at most 200 genes, BH):"
    shown = [
        (
            row["of"],
            f"{row['share']:.1%}",
            str(row["features"]),
            row["rival"],
            f"{row['rival_share']:.1%}",
            points(row),
        )
        for row in rows
    ]
    names = ("features", "share", "n", "rival", "its share", "excess [95%], points")
    return ["", head, str(common.columns(shown, names)), ""]


def _name(row: dict[str, Any]) -> str:
    return f"L{row['layer']}·{row['feature']}"
