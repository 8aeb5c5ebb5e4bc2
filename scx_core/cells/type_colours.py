"""The colours of cell types: those that the file keeps for its labels, as scanpy does, else scanpy's own.

A file keeps them in `uns["COLUMN_colors"]`, in the order of the column's categories. They are read with the
file; this is the one place that says which colour a type has.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import pandas as pd

from scx_core.cells.cell_table import CellTable
from scx_core.cells.formats.palettes import palette_in

GREY = "#808080"  # scanpy's, of types that no palette has a colour for


def colours_by_label(column: pd.Series, palette: Sequence[str]) -> dict[str, str]:
    """The colour of each category; empty without categories, or with more of them than colours."""
    if not isinstance(column.dtype, pd.CategoricalDtype) or len(column.cat.categories) > len(palette):
        return {}
    return {str(name).strip(): one for name, one in zip(column.cat.categories, palette, strict=False)}


def type_colours(table: CellTable) -> Mapping[str, str]:
    """The colour of every cell type, #rrggbb: the file's own where it has one for each, else those of
    scanpy's default palettes in the order of the types' names."""
    types = table.types
    if types and all(name in table.file_colours for name in types):
        return {name: table.file_colours[name] for name in types}
    palettes = _of_scanpy()
    defaults = (palettes.default_20, palettes.default_28, palettes.default_102)
    chosen = next((one for one in defaults if len(types) <= len(one)), [GREY] * len(types))
    return {name: palette_in([one])[0] for name, one in zip(types, chosen, strict=False)}


@cache
def _of_scanpy() -> ModuleType:
    """scanpy's palettes. Its file is read alone: importing scanpy would take seconds."""
    spec = importlib.util.find_spec("scanpy")
    path = Path(spec.origin or "").parent / "plotting" / "palettes.py" if spec is not None else Path()
    alone = importlib.util.spec_from_file_location("scanpy_palettes", path) if path.is_file() else None
    if alone is None or alone.loader is None:  # another layout of the package: ask it
        from scanpy.plotting import palettes

        return palettes
    found = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(found)
    return found
