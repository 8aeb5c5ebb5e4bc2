"""`scx share`: atlas, circuits, evidence and validation of a model as one HTML file, searched offline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.runs import add_arguments, from_namespace

HELP = "write atlas, circuits, evidence and validation of a model as one HTML file that is searched offline"
DESCRIPTION = (
    f"{HELP.capitalize()}. What was measured before is taken from the runs folder; circuits of the types "
    "that have none there are traced. Everything lies in the file, and it asks nothing of any other place."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.share import ShareConfig

    parser.add_argument(
        "source",
        nargs="?",
        metavar="FOLDER",
        help="a folder of results (an atlas, circuits, evidence, validations), of a run, of a build, of a "
        "model or of transcoders (default: what --model and --transcoders name)",
    )
    parser.add_argument("-o", "--out", default="share.html", metavar="FILE", help="default: share.html")
    parser.add_argument("--type", action="append", help="cell type whose circuit is in it (default: all)")
    parser.add_argument("--atlas", type=Path, metavar="FOLDER", help="default: the fittest atlas there is")
    common.add_inputs(parser)
    common.add_runs(parser)
    add_arguments(parser.add_argument_group("share"), ShareConfig, skip=("seed",))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the file; the result says what is in it."""
    from scx_core.atlas import Atlas
    from scx_core.share import ShareConfig, gather, gather_folder, write_share

    common.check_out(args, args.out)
    cfg = from_namespace(ShareConfig, args)
    if args.source is not None and not _names_parts(args):
        shared = gather_folder(args.source)
    else:
        atlas = Atlas.open(args.atlas) if args.atlas is not None else None
        more = {"root": args.runs, "atlas": atlas, "progress": common.progress_of(args)}
        shared = gather(common.open_tracer(args), args.type, cfg, **more)
    path = write_share(shared, args.out, cfg)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "atlas": shared.atlas is not None,
        "circuits": list(shared.circuits),
        "evidence": [one.label for one in shared.evidence],
        "validation": shared.validation is not None,
    }


def _names_parts(args: argparse.Namespace) -> bool:
    """Whether the source is a model, transcoders, a build or a training: the options then name its parts."""
    from scx_core.runs import RunFolder

    folder = Path(args.source)
    if args.source == "embedded" or (folder / "config.json").is_file():
        args.model = args.source
        return True
    if (folder / "model" / "config.json").is_file():
        args.model = str(folder / "model")
    elif (folder / "transcoders").is_dir() and (folder / "run.json").is_file():
        config = RunFolder.open(folder).config
        args.model, args.data = str(config["model"]), str(config["data"])
    elif (folder / "layer_0.safetensors").is_file():
        args.transcoders = str(folder)
        return True
    else:
        return False
    args.transcoders = str(folder / "transcoders")
    return True


def summary(result: dict[str, Any]) -> str:
    """What is in the file, and how large it is."""
    parts = [
        "the atlas" if result["atlas"] else "no atlas",
        f"{len(result['circuits'])} circuits",
        f"evidence of {len(result['evidence'])} types",
        "the validation" if result["validation"] else "no validation",
    ]
    return f"{result['file']}: {result['bytes'] / 1e6:.1f} MB with {', '.join(parts)}."
