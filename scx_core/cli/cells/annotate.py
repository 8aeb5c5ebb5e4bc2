"""`scx annotate`: the user's .h5ad with feature activations and verdicts, for scanpy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import from_namespace

if TYPE_CHECKING:
    import anndata

HELP = "write feature activations and verdicts into a copy of the cells' .h5ad"


def options(parser: argparse.ArgumentParser) -> None:
    one = "LAYER:NUMBER, such as 2:513; may be given again"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.h5ad", help="the new file")
    parser.add_argument(
        "--feature", action="append", metavar="FEATURE", help=f"{one} (default: all that fire)"
    )
    parser.add_argument(
        "--obs", action="append", default=[], metavar="FEATURE", help=f"also a column of obs: {one}"
    )
    parser.add_argument("--atlas", type=Path, metavar="FOLDER", help="an atlas of this set, for the verdicts")
    common.add_inputs(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Annotate, and write the new file."""
    from scx_core.atlas import Atlas, Side, annotate
    from scx_core.atlas.annotate import MEAN, write_annotated
    from scx_core.cells import CellChoices, open_cells
    from scx_core.runs.files import size_of

    wanted = None if args.feature is None else [common.parse_feature(word) for word in args.feature]
    columns = [common.parse_feature(word) for word in args.obs]
    common.check_out(args, args.out, size=size_of(args.data))
    adata = _object(args.data)
    table = open_cells(args.data, from_namespace(CellChoices, args), require_labels=False)
    lm = common.open_language(args)
    side = Side(lm, common.open_transcoders(args, lm))
    atlas = None if args.atlas is None else Atlas.open(args.atlas)
    made = annotate(
        adata, side, table, features=wanted, obs=columns, atlas=atlas, progress=common.progress_of(args)
    )
    write_annotated(made, args.out)
    return {"file": str(args.out), "cells": made.n_obs, "features": int(made.obsm[MEAN].shape[1])}


def _object(source: str) -> anndata.AnnData:
    """The whole AnnData object, which is written again."""
    import anndata

    from scx_core.cells.formats.guarded_reads import reading

    if source == "embedded":
        from scanpy.datasets import pbmc68k_reduced

        return pbmc68k_reduced()
    path = Path(source)
    if path.suffix not in (".h5ad", ".zarr") or not path.exists():
        problem = f"{source} is no .h5ad or .zarr file of cells."
        raise ScxError(problem, "Only AnnData files can be annotated; write your cells as .h5ad.")
    with reading(path.name):
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def summary(result: dict[str, Any]) -> str:
    """What was written, and how to look at it."""
    size = f"{result['cells']} cells × {result['features']} features"
    return f"{size} in obsm['scx_features'], their names in uns['scx']: {result['file']}"
