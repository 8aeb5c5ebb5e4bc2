"""`scx evidence nulls`: the false-positive rate of each significance call, with labels dealt anew."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

if TYPE_CHECKING:
    from scx_core.circuits import Tracer
    from scx_core.evidence.null_rates import NullConfig

HELP = "the false-positive rate of each significance call, with labels dealt anew"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.evidence.null_rates import NullConfig

    parser.add_argument(
        "--types", nargs=2, metavar="TYPE", help="two cell types (default: the two most frequent)"
    )
    parser.add_argument(
        "--atlas", metavar="FOLDER", help="also the gene sets of this atlas' features; its own thresholds"
    )
    parser.add_argument(
        "--features", action="store_true",
        help="calls about features instead: conditions, batches, verdict “cell type”, matches (--against)",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="FOLDER", help="the set that features are matched to (with --features)"
    )
    common.add_inputs(parser)
    add_arguments(parser.add_argument_group("nulls"), NullConfig, skip=("seed",))
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/evidence.md has it")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every rate, as JSON."""
    from scx_core.atlas import Atlas
    from scx_core.atlas.gene_sets.gmt import shipped_markers
    from scx_core.evidence.null_rates import NullConfig, gene_set_rate, null_rates

    cfg = from_namespace(NullConfig, args)
    types = tuple(args.types) if args.types else None
    tracer, progress = common.open_tracer(args), common.progress_of(args)
    if args.features:
        return _features(args, tracer, cfg) | {"markdown": args.markdown}
    found = null_rates(tracer, types, cfg=cfg, progress=progress)
    if args.atlas:
        sets = gene_set_rate(Atlas.open(args.atlas), shipped_markers(), cfg)
        found = found._replace(rates=(*found.rates, sets))
    return found.to_json() | {"markdown": args.markdown}


def _features(args: argparse.Namespace, tracer: Tracer, cfg: NullConfig) -> dict[str, Any]:
    """The calls about features."""
    from scx_core.atlas import Atlas
    from scx_core.evidence.null_rates import NullRates, feature_rates, match_rates
    from scx_core.runs import to_dict
    from scx_core.transcoders import load_set

    label = args.types[0] if args.types else None
    thresholds = Atlas.open(args.atlas).meta["thresholds"] if args.atlas else None
    progress = common.progress_of(args)
    rates = feature_rates(tracer, label, thresholds, cfg=cfg, progress=progress)
    if args.against:
        rates += match_rates(tracer, load_set(args.against, tracer.lm.device), cfg=cfg, progress=progress)
    return NullRates(rates, tracer.about({"nulls": to_dict(cfg)}, seed=cfg.seed)).to_json()


def summary(result: dict[str, Any]) -> str:
    """One row a call."""
    from scx_core.evidence.null_rates import null_rows
    from scx_core.evidence.rankings.rankings import markdown, plain

    return (markdown if result["markdown"] else plain)(*null_rows(result))
