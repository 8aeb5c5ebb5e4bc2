"""`scx transcoders export|import`: sets to and from the layouts of circuit-tracer, sparsify and SAELens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs.files import size_of

if TYPE_CHECKING:
    import torch

    from scx_core.transcoders import TranscoderSet

HELP = "export or import transcoders in the layouts of circuit-tracer, sparsify and SAELens"
DESCRIPTION = f"{HELP}."


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.transcoders.layouts import LAYOUTS

    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="the set: of any tool for import; of ours for export (default: the embedded one)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the set goes: an empty folder")
    parser.add_argument(
        "--layout",
        choices=tuple(LAYOUTS),
        default="circuit-tracer",
        help=f"export: {', '.join(LAYOUTS)} (default: circuit-tracer). An import tells it by the files",
    )
    parser.add_argument(
        "--calibrate",
        type=int,
        metavar="CELLS",
        help="export: a TopK set gets JumpReLU thresholds from the MLP inputs of so many training cells",
    )
    common.add_cells(parser)
    common.add_model(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the set; the result describes it as it reads from where it was written."""
    if args.action == "export":
        from scx_core.transcoders import load_set
        from scx_core.transcoders.layouts import check_empty, export_set

        check_empty(args.out)
        source = Path(args.folder) if args.folder else None
        common.check_out(args, args.out, folder=True, size=size_of(source) if source else None, source=source)
        found = load_set(args.folder or "embedded")
        inputs = _mlp_inputs(args) if args.calibrate is not None else None
        return _described(export_set(found, args.out, args.layout, inputs=inputs), args.layout)
    if args.folder is None:
        raise ScxError("No FOLDER is given.", "Call transcoders import FOLDER --out PLACE.")
    return _import(args)


def _import(args: argparse.Namespace) -> dict[str, Any]:
    from scx_core.transcoders import load_set, save_set
    from scx_core.transcoders.layouts import check_empty, detect

    layout, out = detect(args.folder), Path(args.out)
    check_empty(out)
    common.check_out(args, out, folder=True, size=size_of(args.folder), source=args.folder)
    found = load_set(args.folder)
    saved = save_set(out, found, {"imported_from": {"layout": layout, "fingerprint": found.fingerprint}})
    return _described(saved, layout)


def _mlp_inputs(args: argparse.Namespace) -> list[torch.Tensor]:
    """What the MLPs receive on some of the training cells, by layer."""
    import numpy as np
    import torch

    from scx_core.language import mlp_io
    from scx_core.training.config import TrainConfig
    from scx_core.training.tokens import encode_texts
    from scx_core.training.train import training_split

    if args.calibrate < 1:
        raise ScxError(f"--calibrate is {args.calibrate}.", "At least 1 cell is needed; 128 do well.")
    table, lm = common.open_table(args), common.open_language(args)
    split = training_split(lm, table, TrainConfig())
    rows = np.random.default_rng(split.seed).permutation(split.train)[: args.calibrate]
    texts, progress = encode_texts(lm, table, rows, lm.sentence_config), common.progress_of(args)
    parts: list[list[torch.Tensor]] = [[] for _ in range(lm.facts.n_layers)]
    for cell in range(texts.n_cells):
        ids_BT, mask_BT = texts.batch(lm, [cell])
        for layer, x_BTd in enumerate(mlp_io(lm, ids_BT, mask_BT).inputs):
            parts[layer].append(x_BTd[0].float().cpu())
        progress(cell + 1, texts.n_cells, "Cells")
    return [torch.cat(part) for part in parts]


def _described(found: TranscoderSet, layout: str) -> dict[str, Any]:
    first = found.layers[0]
    return {
        "folder": str(found.folder),
        "layout": layout,
        "form": found.form,
        "kind": found.kind,
        "k": first.k,
        "skip": first.W_skip_dd is not None,
        "n_layers": len(found.layers),
        "n_features": found.n_features,
        "width": found.width,
        "fingerprint": found.fingerprint,
        "provenance": found.meta.get("provenance", {}),
        "calibrated_from": found.meta.get("calibrated_from"),
    }


def summary(result: dict[str, Any]) -> str:
    """What it is and where."""
    gate = ("" if result["form"] == "transcoder" else f"{result['form']}, ") + result["kind"]
    gate += f" with k {result['k']}" if result["k"] else ""
    skip = ", affine skip" if result["skip"] else ""
    size = f"{result['n_layers']} layers × {result['n_features']} features, width {result['width']}"
    lines = [f"{size}: {gate}{skip}", f"layout {result['layout']}, fingerprint {result['fingerprint'][:12]}"]
    if result["calibrated_from"]:
        k = result["calibrated_from"]["k"]
        lines.append(f"JumpReLU thresholds let {k} features a token pass on average; TopK had at most {k}.")
    return "\n".join([*lines, f"The transcoders are in {result['folder']}"])
