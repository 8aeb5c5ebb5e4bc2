"""Cell types have the colours that the file keeps for them, else scanpy's; what is no colour is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scanpy.plotting.palettes import default_20

from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.cells.type_colours import type_colours
from tests.tiny import tiny_table

OWN = ["#ff0000", "tab:blue", "k", "#abcdef", "#00FF00"]


def opened(tmp_path: Path, how: str, colours: object) -> CellTable:
    """Cells of five types whose file holds `colours` for them."""
    table = tiny_table(60)
    labels = pd.Categorical(table.labels.astype(str))
    labels = labels.reorder_categories(sorted(labels.categories, reverse=True))
    adata = ad.AnnData(
        table.rows(np.arange(60)),
        obs=pd.DataFrame({"cell_type": labels}, index=[f"cell{row}" for row in range(60)]),
        var=pd.DataFrame(index=table.symbols.astype(str)),
    )
    if colours is not None:
        adata.uns["cell_type_colors"] = colours
    source: object = adata
    if how == "h5ad":
        source = tmp_path / "cells.h5ad"
        adata.write_h5ad(source)
    elif how == "zarr":
        source = tmp_path / "cells.zarr"
        adata.write_zarr(source)
    return open_cells(source, CellChoices(label="cell_type"))


@pytest.mark.parametrize("how", ["memory", "h5ad", "zarr"])
def test_the_files_own_colours_stand_in_the_order_of_its_categories(tmp_path: Path, how: str) -> None:
    table = opened(tmp_path, how, np.array(OWN))
    found = type_colours(table)
    assert list(found) == table.types
    by_category = [found[name] for name in sorted(table.types, reverse=True)]
    assert by_category == ["#ff0000", "#1f77b4", "#000000", "#abcdef", "#00ff00"]


@pytest.mark.parametrize(
    "colours", [None, np.array(OWN[:4]), np.array([*OWN[:4], "url(x)"]), "red", {"a": "red"}, np.arange(5)]
)
def test_without_a_colour_for_each_type_they_are_scanpys(tmp_path: Path, colours: object) -> None:
    table = opened(tmp_path, "h5ad", colours)
    assert list(type_colours(table).values()) == [one.lower() for one in default_20[:5]]


def test_the_embedded_cells_keep_their_colours_on_the_map() -> None:
    from pages.parts.circuits.cells_view import by_name

    table = open_cells("embedded")
    colours = type_colours(table)
    painted = by_name([*table.labels[:200].tolist(), ""], colours)
    for name, place, _ in painted.legend[:-1]:
        assert painted.palette[place] == colours[name]
    assert painted.legend[-1][0] == "unlabelled"


def test_scanpys_palettes_come_without_scanpy() -> None:
    code = (
        "import sys; from scx_core.cells.type_colours import _of_scanpy as found; "
        "print(found().default_20[0]); sys.exit('scanpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, default_20[0])
