"""Reads .h5ad files and AnnData .zarr folders: the tables into memory, the matrices left on disk.

anndata's own backed mode keeps only X on disk; here raw and the layers stay there too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from anndata import read_h5ad
from anndata.io import read_elem

from ..errors import ScxError
from .matrix import CscOnDisk, CsrOnDisk, DenseOnDisk, RowMatrix, as_float32
from .reading import reading
from .store import ORGANISM_KEYS, Store, checked_store, from_anndata


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading. ScxError when it is something else or cut short."""
    if not h5py.is_hdf5(path):
        raise ScxError(
            f"{path.name} is not an HDF5 file{_looks_like(path)}.", "Give an .h5ad file written by anndata."
        )
    with reading(path.name):
        return h5py.File(path, "r", locking="best-effort")


def _looks_like(path: Path) -> str:
    with reading(path.name), path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x1f\x8b"):
        return ": it is compressed with gzip, unpack it first"
    if head.startswith(b"PK"):
        return ": it is a zip archive, unpack it first"
    if head.lstrip()[:1] == b"<":
        return ": it is a web page, so the download failed"
    if b"\0" not in head:
        return ": it holds text"
    return ""


def is_anndata(group: Any) -> bool:
    """Whether an HDF5 or zarr group has the two tables of an AnnData."""
    return "obs" in group and "var" in group


def read_h5ad_store(path: Path, file: h5py.File) -> Store:
    """The store of an open .h5ad. Files from before anndata 0.7 (tables as arrays) are read whole."""
    if isinstance(file["obs"], h5py.Dataset) or "raw.X" in file:
        with reading(path.name):
            adata = read_h5ad(path)
        return from_anndata(adata, path.name, path, "h5ad (old layout, read into memory)")
    return _read_group(path, file, "h5ad")


def read_zarr_store(path: Path) -> Store:
    """The store of an AnnData .zarr folder."""
    with reading(path.name):
        group = zarr.open_group(str(path), mode="r")
    if not is_anndata(group):
        raise ScxError(
            f"{path.name} is a zarr folder without obs and var (it holds {_keys(group)}).",
            "Give the folder that AnnData.write_zarr wrote; in a SpatialData folder it lies under tables/.",
        )
    return _read_group(path, group, "zarr")


def _keys(group: Any) -> str:
    names = sorted(map(str, group.keys()))
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "nothing"


def _read_group(path: Path, group: Any, format_name: str) -> Store:
    name = path.name
    with reading(f"{name}: the table obs"):
        obs = read_elem(group["obs"])
    with reading(f"{name}: the table var"):
        var = read_elem(group["var"])
    for table, title in ((obs, "obs"), (var, "var")):
        if not hasattr(table, "columns"):
            raise ScxError(f"{name}: {title} is not a table.", "Write the file again with anndata.")
    matrices: dict[str, RowMatrix] = {}
    raw_var = None
    if "X" in group:
        _add(matrices, "X", group["X"], name)
    if "raw" in group and "X" in group["raw"] and "var" in group["raw"]:
        with reading(f"{name}: the table raw.var"):
            raw_var = read_elem(group["raw"]["var"])
        _add(matrices, "raw", group["raw"]["X"], name)
    for key in sorted(group["layers"].keys()) if "layers" in group else ():
        _add(matrices, f"layers/{key}", group["layers"][key], name)
    return checked_store(Store(name, path, format_name, obs, var, matrices, raw_var, _hints(group)))


def _hints(group: Any) -> dict[str, str]:
    found = {}
    for key in ORGANISM_KEYS:
        if "uns" in group and key in group["uns"]:
            with reading(f"uns['{key}']"):
                value = read_elem(group["uns"][key])
            if isinstance(value, str):
                found[f"uns['{key}']"] = value
    return found


def _add(matrices: dict[str, RowMatrix], key: str, element: Any, name: str) -> None:
    with reading(f"{name}: the matrix {key}"):
        matrix = matrix_of(element, f"{name}: the matrix {key}")
    if matrix is not None:
        matrices[key] = matrix


def matrix_of(element: Any, what: str) -> RowMatrix | None:
    """Row access to a stored matrix (dense array, CSR or CSC group); None for an element saved as null."""
    encoding = str(element.attrs.get("encoding-type", ""))
    if encoding == "null":
        return None
    if hasattr(element, "dtype"):
        if len(element.shape) != 2:
            raise ScxError(f"{what} has {len(element.shape)} dimensions.", "Save it as cells × genes.")
        _check_numbers(element.dtype, what)
        return DenseOnDisk(element)
    encoding = encoding or str(element.attrs.get("h5sparse_format", ""))
    shape = element.attrs.get("shape", element.attrs.get("h5sparse_shape"))
    if shape is None or encoding[:3] not in ("csr", "csc"):
        raise ScxError(
            f"{what} is stored as '{encoding or 'an unknown group'}'.",
            "Save it as a dense, CSR or CSC matrix.",
        )
    _check_numbers(element["data"].dtype, what)
    kind = CsrOnDisk if encoding.startswith("csr") else CscOnDisk
    return kind(element["data"], element["indices"], element["indptr"], (int(shape[0]), int(shape[1])))


def _check_numbers(dtype: Any, what: str) -> None:
    kind = getattr(dtype, "kind", "O")
    as_float32(np.empty(0, dtype=dtype if kind in "buifc" else object), what)
