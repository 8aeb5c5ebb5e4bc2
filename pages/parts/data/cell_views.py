"""Cells at a glance: types, genes per cell, the file's map, one cell as its sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from pages.parts.common.charts import counts_chart, histogram, map_chart
from pages.parts.common.loaders import cells_key
from pages.parts.common.results import Memory, download
from pages.parts.common.words import HELP, count, safe
from scx_core.cells import CellTable, cell_map, genes_per_cell
from scx_core.cells.type_colours import type_colours
from scx_core.figures import table_csv
from scx_core.sentences import SentenceConfig, Ties, gene_sentences, ties_of

MOST_POINTS = 20_000
_TIES: Memory[Ties] = Memory(8)
_GENES: Memory[np.ndarray] = Memory(8)


def cell_views(table: CellTable) -> None:
    """The four views, as tabs."""
    types, genes, cells, one = st.tabs(
        [
            f"{table.unit.capitalize()}s per type",
            f"Genes per {table.unit}",
            "Map",
            f"One {table.unit} as its sentence",
        ]
    )
    with types:
        _types(table)
    with genes:
        _genes(table)
    with cells:
        _map(table)
    with one:
        _one_cell(table)


def _types(table: CellTable) -> None:
    counts = table.cells_per_type()
    if counts.empty:
        st.info("The cells have no types yet: choose a label column above.")
        return
    st.caption(f"n = {int(counts.sum()):,} labelled {table.unit}s of {table.n_cells:,}.")
    counts_chart(counts, f"{table.unit}s", type_colours(table))
    _download(counts.reset_index(), "cells_per_type.csv")


def _genes(table: CellTable) -> None:
    values = _GENES.get(cells_key(table), lambda: genes_per_cell(table))
    sample = "" if len(values) == table.n_cells else f", drawn from {table.n_cells:,}"
    st.caption(
        f"Median {np.median(values):,.0f} genes above 0 a {table.unit}, "
        f"n = {count(len(values), table.unit)}{sample}."
    )
    histogram(values, "genes above 0", f"{table.unit}s")
    _download(pd.DataFrame({"genes": values}), "genes_per_cell.csv")


def _map(table: CellTable) -> None:
    found = cell_map(table)
    if found is None:
        st.info("The file holds no map of its cells (obsm has no UMAP). Nothing here needs one.")
        return
    name, xy = found
    points = pd.DataFrame(
        {"x": xy[:, 0], "y": xy[:, 1], "type": np.where(table.labels == "", "unlabelled", table.labels)}
    ).assign(cell=table.cell_ids)
    drawn = points.sample(min(MOST_POINTS, len(points)), random_state=0)
    st.caption(f"{safe(name)} as the file has it, n = {len(drawn):,} of {len(points):,} cells.")
    map_chart(drawn, name, type_colours(table))
    _download(points, "map.csv")


def _one_cell(table: CellTable) -> None:
    left, right = st.columns([1, 1])
    numbers = f"1 to {table.n_cells:,}"
    row = left.number_input(table.unit.capitalize(), 1, table.n_cells, step=1, help=numbers) - 1
    most = int(right.number_input("Genes", 2, 8192, SentenceConfig().n_genes, step=10, help=HELP["sentence"]))
    genes = gene_sentences(table, [row], most, SentenceConfig().tie_seed)[0]
    label = table.labels[row] or "unlabelled"
    st.caption(f"{safe(table.cell_ids[row])}, {safe(label)}: {len(genes)} genes, highest expression first.")
    st.code(" ".join(genes), language=None, wrap_lines=True)
    st.caption(_ties(table, most).words(table.unit), help=HELP["ties"])


def _ties(table: CellTable, most: int) -> Ties:
    """What ties decide in sentences of so many genes, over all cells."""
    return _TIES.get((*cells_key(table), most), lambda: ties_of(table, np.arange(table.n_cells), most))


def _download(rows: pd.DataFrame, name: str) -> None:
    words = name.removesuffix(".csv").replace("_", " ").capitalize()
    download(f"{words} (CSV)", lambda: table_csv(rows), name)
