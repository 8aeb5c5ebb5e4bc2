"""A file of cells as found, before anything is decided: tables, matrices by name, and what it is called.

`open_store` knows the sources (an AnnData object, .h5ad, .zarr, 10x .h5, a 10x mtx folder, "embedded")
and hands each to the module that reads it. Matrices stay on disk wherever the format allows it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ScxError
from .matrix import MemoryMatrix, RowMatrix

EMBEDDED = "embedded"


@dataclass(frozen=True)
class Store:
    """What a source holds. `matrices` maps "X", "raw" and "layers/NAME" to rows; `raw_var` goes with "raw".

    `hints` are facts outside the tables (an organism in uns, the genome of a 10x file). `notes` are
    sentences about what was left out or repaired while reading.
    """

    name: str
    path: Path | None
    format: str
    obs: pd.DataFrame
    var: pd.DataFrame
    matrices: dict[str, RowMatrix]
    raw_var: pd.DataFrame | None = None
    hints: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def var_of(self, values: str) -> pd.DataFrame:
        """The gene table that belongs to a matrix."""
        return self.raw_var if values == "raw" and self.raw_var is not None else self.var


def open_store(source: Any) -> Store:
    """Open any supported source; ScxError says what is wrong with a path and what would work."""
    if hasattr(source, "obs") and hasattr(source, "var_names"):
        return from_anndata(source, "AnnData object", None, "AnnData object")
    if str(source) == EMBEDDED:
        return embedded_store()
    raise ScxError(f"{source}: unknown source.", "Use 'embedded'.")


def from_anndata(adata: Any, name: str, path: Path | None, format_name: str) -> Store:
    """The store of an AnnData object; a backed one is read into memory."""
    if adata.isbacked:
        adata = adata.to_memory()
    matrices: dict[str, RowMatrix] = {} if adata.X is None else {"X": MemoryMatrix(adata.X)}
    raw_var = None
    if adata.raw is not None:
        matrices["raw"], raw_var = MemoryMatrix(adata.raw.X), adata.raw.var.copy()
    matrices |= {f"layers/{key}": MemoryMatrix(value) for key, value in adata.layers.items()}
    hints = {key: str(adata.uns[key]) for key in ("organism", "species") if isinstance(adata.uns.get(key), str)}
    return Store(name, path, format_name, adata.obs.copy(), adata.var.copy(), matrices, raw_var, hints)


def embedded_store() -> Store:
    """scanpy's own 700 blood cells. The file is read directly: importing scanpy would take seconds."""
    from anndata import read_h5ad

    spec = importlib.util.find_spec("scanpy")
    if spec is None or spec.origin is None:
        raise ScxError("The embedded cells come with scanpy, which is not installed.", "pip install scanpy")
    path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if path.is_file():
        return from_anndata(read_h5ad(path), "pbmc68k_reduced", path, "scanpy package data")
    from scanpy.datasets import pbmc68k_reduced

    return from_anndata(pbmc68k_reduced(), "pbmc68k_reduced", None, "scanpy package data")
