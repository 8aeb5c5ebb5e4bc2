"""`scx evidence network`: are pairs of genes that features or circuits join curated edges of a network?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace, sha256_of, to_dict

HELP = "hold pairs of genes that features or circuits join against a curated gene network"
DESCRIPTION = (
    "Enrichment of curated edges (such as TRRUST) among pairs of genes that one feature reads, or one "
    "feature of a circuit, against nulls that keep degrees, beside co-expression, co-occurrence and spelling."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.biology.network import NetworkConfig

    group = parser.add_argument_group("network")
    group.add_argument("--edges", metavar="FILE", required=True, help="TSV (also .gz): factor, target, ...")
    group.add_argument(
        "--atlas",
        metavar="FOLDER",
        help="atlas of these features (default: one that is there, else some cells are read)",
    )
    common.add_inputs(parser)
    common.add_cached(parser)
    add_arguments(parser.add_argument_group("study"), NetworkConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/evidence.md has them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The study, as JSON."""
    from scx_core.atlas import Atlas
    from scx_core.atlas.feature_naming import fitting_atlas
    from scx_core.evidence.biology.network import NetworkConfig, read_edges
    from scx_core.evidence.biology.network_study import network_study

    edges, cfg = read_edges(args.edges), from_namespace(NetworkConfig, args)
    cfg.numbers  # noqa: B018  said before the work
    tracer = common.open_tracer(args)
    if args.atlas:
        atlas: Atlas | None = Atlas.open(Path(args.atlas))
    else:
        made_from = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
        atlas = fitting_atlas(made_from, args.runs)
    config = {"network": to_dict(cfg), "edges": sha256_of(args.edges), "atlas": atlas and atlas.meta}

    def make() -> dict[str, Any]:
        return network_study(tracer, atlas, edges, cfg, common.progress_of(args)).to_json()

    return common.answer_cached(args, "network", tracer, config, make) | {"markdown": args.markdown}


def summary(result: dict[str, Any]) -> str:
    """The table of the study."""
    from scx_core.evidence.biology.network_study import network_tables

    return network_tables(result, result["markdown"])
