"""`scx atlas`: what every feature means, with verdicts, and every share beside its baselines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, add_arguments, from_namespace
from scx_core.runs.files import write_atomic

if TYPE_CHECKING:
    from scx_core.atlas import Atlas

HELP = "collect what every feature responds to and give it a verdict"


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.atlas import AtlasConfig

    common.add_inputs(parser)
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another set to hold beside, such as sae=FOLDER; may be given again",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: the runs folder)"
    )
    parser.add_argument("--run", metavar="FOLDER", help="do the job in this folder (as the app starts it)")
    parser.add_argument(
        "--install",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="also write the short form that ships with an installed set (default: models/NAME-atlas)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write the shares beside their rivals as Markdown"
    )
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs (default: $SCX_RUNS)")
    add_arguments(parser.add_argument_group("atlas"), AtlasConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the atlas; where it lies, and its verdict shares."""
    from scx_core.atlas import AtlasConfig, atlas_folder, make_atlas, report
    from scx_core.atlas.atlas_folder import place_of, run_job, ship

    if args.run:
        made = run_job(RunFolder.open(args.run), common.progress_of(args))
        return _result(made)
    cfg = from_namespace(AtlasConfig, args)
    if args.out is not None:
        common.check_out(args, args.out, folder=True)
    if args.report is not None:
        common.check_out(args, args.report)
    if args.install:
        common.check_out(args, args.install, folder=True)
    table, lm = common.open_table(args), common.open_language(args)
    coders = common.open_transcoders(args, lm)
    made = make_atlas(
        lm, coders, table, cfg=cfg, beside=_beside(args.beside, lm), progress=common.progress_of(args)
    )
    saved = made.save(args.out or atlas_folder(lm, coders, table, cfg, args.runs))
    result = _result(saved)
    if args.report is not None:
        write_atomic(args.report, f"{report(saved)}\n")
    if args.install is not None:
        shipped = ship(saved, Path(args.install) if args.install else place_of(coders.folder))
        result["installed"] = str(shipped.folder)
    return result


def _result(saved: Atlas) -> dict[str, Any]:
    """Where an atlas lies, its shares, what they have over their rivals, and what may be said of them."""
    from scx_core.atlas.judge.excess import excess
    from scx_core.claims.of_features import atlas_claims

    return {
        "atlas": str(saved.folder),
        **saved.meta,
        "shares": {
            name: one.shares.to_dict("records")
            for name, one in {saved.meta["source"]["kind"]: saved, **saved.beside}.items()
        },
        "excess": excess(saved).to_dict("records"),
        "claims": [one.to_json() for one in atlas_claims(saved)],
        "curve": saved.table("curve").to_dict("records"),
    }


def _beside(words: list[str], lm: Any) -> dict[str, Any]:
    from scx_core.transcoders import load_set

    found = {}
    for word in words:
        name, sign, folder = word.partition("=")
        if not (sign and name.isidentifier() and name not in ("main", "neurons")):
            raise ScxError(f"{word[:80]!r} names no set.", "Give NAME=FOLDER, as sae=runs/sae/transcoders.")
        found[name] = load_set(folder, lm.device, lm.dtype)
    return found


def summary(result: dict[str, Any]) -> str:
    """Every share over all layers beside its baselines, by how much it exceeds random directions, and the
    curve over cells."""
    head = f"{result['n_cells']} cells, {result['n_tokens']:,} tokens; shares of live features, all layers"
    parts = [head, *(_excess_table(result["excess"]) if result["excess"] else [_shares_table(result)])]
    return "\n".join([*parts, *(result[key] for key in ("atlas", "installed") if key in result)])


FIXED = ("measure", "layer", "share", "features", "random", "random_low", "random_high", "draws")
MORE = ("excess", "low", "high")


def _excess_table(records: list[dict[str, Any]]) -> list[str]:
    from scx_core.atlas.judge.excess import points

    others = [name for name in records[0] if name not in (*FIXED, *MORE)]
    rows = [
        (
            row["measure"],
            f"{row['share']:.1%}",
            f"{row['random']:.1%} ({row['random_low']:.1%} to {row['random_high']:.1%})",
            points(row),
            *(f"{row[name]:.1%}" for name in others),
        )
        for row in records
        if row["layer"] == -1
    ]
    n, draws = records[0]["features"], records[0]["draws"]
    names = ("", f"features (n {n:,})", f"random directions ({draws} draws)", "excess [95%], points")
    return [common.columns(rows, (*names, *others))]


def _shares_table(result: dict[str, Any]) -> str:
    """Without random directions: real, under both nulls, and beside."""
    kinds: dict[str, dict[str, float]] = {}
    for name, rows in result["shares"].items():
        for row in rows:
            if row["layer"] == -1:
                kinds.setdefault(str(row["verdict"]), {})[f"{name}: {row['data']}"] = row["share"]
    names = [name for name in next(iter(kinds.values())) if not name.endswith("other half")]
    shown = [(verdict, *(f"{found[name]:.1%}" for name in names)) for verdict, found in kinds.items()]
    return str(common.columns(shown, ("verdict", *names)))
