"""Reads .h5ad files and AnnData .zarr folders: the tables into memory, the matrices left on disk.

anndata's own backed mode keeps only X on disk; here raw and the layers stay there too. Its reader of tables
needs its own marks (encoding-type, column-order). SeuratDisk and others write tables without them, marks as
bytes, categories apart from their codes (obs/__categories/NAME), or factors as levels and values. What the
datasets show is read; a column that cannot be understood is left out, with a note.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import read_h5ad
from anndata.io import read_elem

from scx_core.cells.matrix import CscOnDisk, CsrOnDisk, DenseOnDisk, RowMatrix, as_float32
from scx_core.errors import ScxError

from .guarded_reads import reading
from .palettes import MOST, column_of
from .raw_cells import ORGANISM_KEYS, Store, checked_store, from_anndata, palettes_in
from .self_contained import check_hdf5, check_zarr


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading. ScxError when it is something else or cut short."""
    if not h5py.is_hdf5(path):
        raise ScxError(
            f"{path.name} is not an HDF5 file{_looks_like(path)}.", "Give an .h5ad file written by anndata."
        )
    with reading(path.name):
        file = h5py.File(path, "r", locking="best-effort")
    check_hdf5(path, file)
    return file


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


_EXPRESSION = (
    "rna", "gex", "gene expression", "gene_expression", "expression", "transcriptome", "mrna", "scrna",
)  # fmt: skip


def is_mudata(group: Any) -> bool:
    """Whether an HDF5 or zarr group holds several AnnData, as MuData writes them."""
    return "mod" in group and hasattr(group["mod"], "keys")


def read_mudata(path: Path, group: Any, format_name: str) -> Store:
    """The store of a MuData's modality of gene expression, with the labels of the whole. ScxError when none
    is called so."""
    names = sorted(map(str, group["mod"].keys()))
    chosen = next((name for want in _EXPRESSION for name in names if name.lower() == want), None)
    if chosen is None and len(names) == 1:
        chosen = names[0]
    if chosen is None or not is_anndata(group["mod"][chosen]):
        raise ScxError(
            f"{path.name} is a MuData of {', '.join(names) or 'nothing'}, and none of them is called rna.",
            'Save the modality with the gene expression: mdata["NAME"].write_h5ad("cells.h5ad").',
        )
    store = read_group(path, group["mod"][chosen], f"{format_name} (MuData, {chosen})")
    notes = [f"It is a MuData of {', '.join(names)}: {chosen} is read."]
    if "obs" in group:
        whole, more = read_frame(group["obs"], f"{path.name}: the table obs")
        more_columns = whole.loc[:, [name for name in whole.columns if name not in store.obs.columns]]
        if store.obs.index.isin(whole.index).all() and whole.index.is_unique:
            store = replace(store, obs=store.obs.join(more_columns))
        notes += more
    return replace(store, notes=(*notes, *store.notes))


def is_anndata(group: Any) -> bool:
    """Whether an HDF5 or zarr group has the two tables of an AnnData."""
    return "obs" in group and "var" in group


def read_h5ad_store(path: Path, file: h5py.File) -> Store:
    """The store of an open .h5ad. Files from before anndata 0.7 (tables as arrays) are read whole."""
    if isinstance(file["obs"], h5py.Dataset) or "raw.X" in file:
        with reading(path.name):
            adata = read_h5ad(path)
        return from_anndata(adata, path.name, path, "h5ad (old layout, read into memory)")
    return read_group(path, file, "h5ad")


def read_zarr_store(path: Path) -> Store:
    """The store of an AnnData .zarr folder."""
    check_zarr(path)
    with reading(path.name):
        group = zarr.open_group(str(path), mode="r")
    if is_mudata(group):
        return read_mudata(path, group, "zarr")
    if not is_anndata(group):
        raise ScxError(
            f"{path.name} is a zarr folder without obs and var (it holds {_keys(group)}).",
            "Give the folder that AnnData.write_zarr wrote; in a SpatialData folder it lies under tables/.",
        )
    return read_group(path, group, "zarr")


def _keys(group: Any) -> str:
    names = sorted(map(str, group.keys()))
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "nothing"


def read_group(path: Path, group: Any, format_name: str, name: str = "") -> Store:
    """The store of an open AnnData group; `name` is what messages call it (default: the file's name)."""
    name = name or path.name
    obs, notes = read_frame(group["obs"], f"{name}: the table obs")
    var, more = read_frame(group["var"], f"{name}: the table var")
    notes += more
    matrices: dict[str, RowMatrix] = {}
    refused: list[ScxError] = []
    raw_var = None
    if "X" in group:
        _add(matrices, refused, "X", group["X"], name)
    raw = group.get("raw")  # a raw that was saved as null is no group, and no raw
    if hasattr(raw, "keys") and "X" in raw and "var" in raw:
        try:
            raw_var, more = read_frame(raw["var"], f"{name}: the table raw.var")
            notes += more
            _add(matrices, refused, "raw", raw["X"], name)
        except ScxError as error:
            refused.append(error)
    layers = group.get("layers")
    for key in sorted(layers.keys()) if hasattr(layers, "keys") else ():
        _add(matrices, refused, f"layers/{key}", layers[key], name)
    if refused and not matrices:
        raise refused[0]
    notes += [f"Left out: {error.problem}" for error in refused]
    return checked_store(
        Store(
            name, path, format_name, obs, var, matrices, raw_var, _hints(group), tuple(notes),
            palettes=_palettes(group),
        )
    )  # fmt: skip


def _hints(group: Any) -> dict[str, str]:
    found = {}
    uns = group.get("uns")
    for key in ORGANISM_KEYS if hasattr(uns, "keys") else ():
        if key not in uns:
            continue
        with suppress(ScxError), reading(f"uns['{key}']"):  # a fact that cannot be read is none
            value = read_elem(uns[key])
            if isinstance(value, str):
                found[f"uns['{key}']"] = value
    return found


def _palettes(group: Any) -> dict[str, tuple[str, ...]]:
    """Colours of the categories of a column; what cannot be read is none."""
    uns, found = group.get("uns"), {}
    for key in uns.keys() if hasattr(uns, "keys") else ():
        if column_of(key) is not None and getattr(uns[key], "size", MOST + 1) <= MOST:
            with suppress(ScxError), reading(f"uns['{key}']"):
                found[key] = read_elem(uns[key])
    return palettes_in(found)


def _add(matrices: dict[str, RowMatrix], refused: list[ScxError], key: str, element: Any, name: str) -> None:
    """Add a matrix, or the reason why it is none."""
    try:
        with reading(f"{name}: the matrix {key}"):
            matrix = matrix_of(element, f"{name}: the matrix {key}")
    except ScxError as error:
        refused.append(error)
        return
    if matrix is not None:
        matrices[key] = matrix


def matrix_of(element: Any, what: str) -> RowMatrix | None:
    """Row access to a stored matrix (dense array, CSR or CSC group); None for an element saved as null."""
    encoding = text_attribute(element, "encoding-type")
    if encoding == "null":
        return None
    if hasattr(element, "dtype"):
        if element.shape is None:  # HDF5's own null
            return None
        if len(element.shape) != 2:
            raise ScxError(f"{what} has {len(element.shape)} dimensions.", "Save it as cells × genes.")
        _check_numbers(element.dtype, what)
        return DenseOnDisk(element)
    encoding = encoding or text_attribute(element, "h5sparse_format")
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


_INDEX = ("_index", "index", "features", "cells", "rownames", "row_names", "barcodes", "names")
_CATEGORIES = "__categories"


def read_frame(element: Any, what: str) -> tuple[pd.DataFrame, list[str]]:
    """A stored table and sentences about what was left out. ScxError when it is no table."""
    try:
        with reading(what):
            table = read_elem(element)
        if isinstance(table, pd.DataFrame):
            return _with_categories(table, element, what)
    except ScxError:
        if not _is_group(element):
            raise
    if not _is_group(element):
        raise ScxError(f"{what} is not a table.", "Write the file again with anndata.")
    with reading(what):
        return _unmarked(element, what)


def text_attribute(element: Any, name: str) -> str:
    """An attribute as text, whether it is stored as text or as bytes; "" where there is none."""
    value = element.attrs.get(name, "")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_group(element: Any) -> bool:
    return hasattr(element, "keys") and not hasattr(element, "dtype")


def _with_categories(table: pd.DataFrame, element: Any, what: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with names for codes whose categories lie in a group of their own."""
    kept = element[_CATEGORIES] if _is_group(element) and _CATEGORIES in element else {}
    notes = []
    for column in [name for name in kept if name in table.columns and table[name].dtype.kind in "iu"]:
        with reading(f"{what}, the categories of {column}"):
            names = _values(kept[column])
        codes = table[column].to_numpy()
        if len(codes) and not codes.max() < len(names):
            notes.append(f"The categories of {column} do not fit its codes and are left out.")
            continue
        table[column] = pd.Categorical.from_codes(np.where(codes < 0, -1, codes), pd.Index(names).astype(str))
    return table, notes


def _unmarked(group: Any, what: str) -> tuple[pd.DataFrame, list[str]]:
    """A table without anndata's marks."""
    key = text_attribute(group, "_index")
    if key not in group:
        key = next((name for name in _INDEX if name in group), "")
    if not key:
        names = ", ".join(sorted(map(str, group.keys()))[:8]) or "nothing"
        raise ScxError(
            f"{what} is no table with an index (it holds {names}).", "Write the file again with anndata."
        )
    index = pd.Index(_values(group[key])).astype(str)
    columns, notes = {}, []
    for name in map(str, group.keys()):
        if name in (key, _CATEGORIES):
            continue
        try:
            with reading(f"{what}, the column {name}"):
                values = _column(group[name])
            if len(values) != len(index):
                raise ScxError(f"it has {len(values)} values for {len(index)} rows", "")
            columns[name] = values
        except ScxError as error:
            notes.append(f"{what}: the column {name} is left out: {error.problem}")
    table = pd.DataFrame(columns, index=index)
    found, more = _with_categories(table, group, what)
    return found, notes + more


def _column(element: Any) -> Any:
    """The values of one column: an array, or a group of codes with categories, or of levels with values."""
    if not _is_group(element):
        return _values(element)
    for codes, names, first in (("codes", "categories", 0), ("values", "levels", 1), ("codes", "levels", 1)):
        if codes in element and names in element:
            number = np.asarray(element[codes][:], dtype=np.int64) - first
            return pd.Categorical.from_codes(
                np.where(number < 0, -1, number), pd.Index(_values(element[names])).astype(str)
            )
    if "values" in element and "mask" in element:
        return (
            pd.Series(_values(element["values"])).mask(np.asarray(element["mask"][:], dtype=bool)).to_numpy()
        )
    raise ScxError("it is a group that holds no column", "")


def _values(element: Any) -> np.ndarray:
    """An array of one dimension; bytes as text."""
    values = np.asarray(element[:])
    if values.ndim != 1:
        raise ScxError(f"it has {values.ndim} dimensions", "")
    if values.dtype.kind in "SO":
        text = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in values.tolist()]
        return np.array(text, dtype=object)
    return values
