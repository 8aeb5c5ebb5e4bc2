"""`scx connections`: what a feature reads and writes in any cell, from the weights alone."""

from __future__ import annotations

import argparse
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "list what a transcoder feature is connected to in any cell"

TITLES = {
    "features": "earlier features, directly",
    "features_by_head": "earlier features, through a head",
    "genes": "tokens that start genes, directly",
    "genes_by_head": "tokens that start genes, through a head",
    "feeds": "later features, directly",
    "feeds_by_head": "later features, through a head",
    "writes": "output tokens that it moves",
}
SHOWN = 6  # rows of each table that the text shows


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.circuits.connection_tables import LinkConfig

    parser.add_argument("feature", metavar="LAYER:NUMBER", help="the feature, as 2:513")
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("tables"), LinkConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The connection tables."""
    from scx_core.circuits.connection_tables import LinkConfig, feature_links

    layer, number = common.parse_feature(args.feature)
    config = from_namespace(LinkConfig, args)
    return feature_links(common.open_tracer(args), layer, number, config).to_json()


def summary(result: dict[str, Any]) -> str:
    """The tables, a few rows each; weights have no unit."""
    feature = f"feature L{result['layer']}·{result['feature']}"
    parts = [
        f"{title}\n{common.columns([_row(link) for link in result[name][:SHOWN]], ('', 'weight', 'head'))}"
        for name, title in TITLES.items()
    ]
    head = f"{feature} in any cell; every 1/σ and attention weight is left out"
    return "\n\n".join([head, *parts])


def _row(link: dict[str, Any]) -> tuple[str, float, str]:
    head = "" if link["head"] is None else f"{link['head_layer']}.{link['head']}"
    if link["feature"] is not None:
        name = f" {link['name']}" if link["name"] else ""
        return f"L{link['layer']}·{link['feature']}{name}", link["weight"], head
    more = link["n_genes"] - len(link["genes"])
    genes = f" {', '.join(link['genes'])}{f' and {more} more' if more else ''}" if link["genes"] else ""
    return f"{link['text'].strip()!r}{genes}", link["weight"], head
