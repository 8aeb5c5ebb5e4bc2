"""Findings about the cells and genes themselves: repairs, empty cells, pools, merged genes."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from .choices import Finding
from .genes import GeneColumns
from .matrix import RowMatrix
from .store import Store

_POOLED = re.compile(r"n_?(?:cells|nuclei)(?:_?pooled)?|(?:cells|nuclei)_?pooled|psbulk_n_cells")
# Fewer genes than this a cell is what the reference recipe of cell sentences leaves out.
FEW_GENES = 200
PANEL = 1000
_SAMPLE = 500


def unique_ids(obs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """obs with unique text ids (a second "A" becomes "A-2"), and a sentence about it or ""."""
    if obs.index.is_unique and obs.index.inferred_type == "string":
        return obs, ""
    ids = pd.Series(obs.index.astype(str), dtype=object)
    again = ids.groupby(ids).cumcount()
    n_again = int((again > 0).sum())
    taken, new = set(ids), ids.tolist()
    for place in np.flatnonzero(again > 0):
        number = int(again[place]) + 1
        while f"{ids[place]}-{number}" in taken:
            number += 1
        new[place] = f"{ids[place]}-{number}"
        taken.add(new[place])
    obs = obs.set_axis(pd.Index(new, name=obs.index.name), axis=0)
    if not n_again:
        return obs, ""
    return (
        obs,
        f"{n_again:,} cell ids occur twice or more (such as '{ids[again > 0].iloc[0]}'): a number was added",
    )


def cell_finding(
    store: Store, matrix: RowMatrix, kind: str, labels: np.ndarray, id_note: str
) -> tuple[Finding, np.ndarray]:
    """What is worth knowing about the cells, and the labels with those of empty cells taken away."""
    n = len(labels)
    some = matrix.rows(np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int)))
    genes = int(np.median(np.diff(some.indptr)))
    notes = [id_note] if id_note else []
    held = matrix.values_per_row()
    if held is not None and (n_empty := int((held == 0).sum())):
        labels = np.where(held == 0, "", labels)
        notes.append(f"{n_empty:,} cells have no gene above 0 and take no part")
    if genes < FEW_GENES and matrix.shape[1] > PANEL:
        notes.append(f"few genes a cell: the usual recipe leaves out cells with fewer than {FEW_GENES}")
    for column in store.obs.columns:
        if _POOLED.fullmatch(column.lower()) and store.obs[column].dtype.kind in "iuf":
            low, high = store.obs[column].min(), store.obs[column].max()
            if low > 1:
                notes.append(
                    f"each row is a pool of {low:.0f} to {high:.0f} cells (column '{column}'), not one cell"
                )
    evidence = "; ".join([f"median of {genes:,} genes a cell", *notes])
    what = "profiles, not cells" if kind == "averages" else "cells"
    return Finding(
        "cells", f"{n:,} {what}", evidence, (), "note" if notes or kind == "averages" else "ok"
    ), labels


def gene_finding(names: np.ndarray, columns: GeneColumns, n_unnamed: int) -> Finding:
    """How many genes there are, and which were merged or have no symbol. `names` [n_vars], upper case."""
    notes = []
    counts = np.bincount(columns.target, minlength=columns.n_genes)
    if n_merged := int((counts > 1).sum()):
        first = names[np.flatnonzero(counts[columns.target] > 1)[0]]
        how = (
            "the largest value is kept (logarithms cannot be summed)"
            if columns.take_maximum
            else "values are summed"
        )
        notes.append(
            f"symbols that occur more than once after upper-casing: {n_merged:,} (such as {first}); {how}"
        )
    if n_unnamed:
        notes.append(f"{n_unnamed:,} genes have no symbol and keep their id")
    if columns.n_genes <= PANEL:
        notes.append("a panel or a selection of genes, not the whole transcriptome")
    return Finding("genes", f"{columns.n_genes:,} genes", "; ".join(notes) or "all symbols are different", (),
                   "note" if notes else "ok")  # fmt: skip
