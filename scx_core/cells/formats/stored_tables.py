"""Reads obs and var as they lie in HDF5 or zarr: as anndata wrote them, or as other tools left them.

anndata's reader needs its own marks (encoding-type, column-order). SeuratDisk and others write tables without
them, marks as bytes, categories apart from their codes (obs/__categories/NAME), or factors as levels and
values. What a look at the datasets can understand is read; a column that it cannot is left out, with a note.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata.io import read_elem

from scx_core.errors import ScxError

from .guarded_reads import reading

_INDEX = ("_index", "index", "features", "cells", "rownames", "row_names", "barcodes", "names")
_CATEGORIES = "__categories"


def read_table(element: Any, what: str) -> tuple[pd.DataFrame, list[str]]:
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
        return _look(element, what)


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


def _look(group: Any, what: str) -> tuple[pd.DataFrame, list[str]]:
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
