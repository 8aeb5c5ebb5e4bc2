"""Findings about the cells and genes themselves: repairs, empty cells, pools, merged genes."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.cells.choices import Finding
from scx_core.cells.formats.raw_cells import Store
from scx_core.cells.matrix import RowMatrix, empty_rows

from .gene_symbols import GeneColumns, NamedGenes

_POOLED = re.compile(r"n_?(?:cells|nuclei)(?:_?pooled)?|(?:cells|nuclei)_?pooled|psbulk_n_cells")
# Fewer genes than this a cell is what the reference recipe of cell sentences leaves out.
FEW_GENES = 200
PANEL = 1000
# The genes of a row are counted in all rows up to the first number, else in so many.
_READ_ALL, _SAMPLE = 5000, 500


class _Pooled(NamedTuple):
    """A column of pool sizes, and the sizes in words."""

    column: str
    sizes: str


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
) -> tuple[Finding, np.ndarray, str]:
    """What is worth knowing about the rows, the labels with those of empty cells taken away, and what a row
    is: "cell", "pool" or "profile"."""
    n = len(labels)
    drawn = np.unique(np.linspace(0, n - 1, n if n <= _READ_ALL else _SAMPLE).astype(int))
    genes = int(np.median(_genes_per_row(matrix, drawn)))
    notes = [id_note] if id_note else []
    empty = empty_rows(matrix)
    if n_empty := int(empty.sum()):
        labels = np.where(empty, "", labels)
        notes.append(f"{n_empty:,} cells have no gene above 0 and take no part")
    if genes < FEW_GENES and matrix.shape[1] > PANEL:
        notes.append(f"few genes a cell: the usual recipe leaves out cells with fewer than {FEW_GENES}")
    unit = "cell"
    if kind == "averages":
        unit = "profile"
        notes.append("each row is an average of many cells, not one cell")
    elif pooled := _pooled(store.obs):
        unit = "pool" if "pool" in pooled.column.lower() else "cell"
        notes.append(f"each row is a pool of {pooled.sizes} cells (column '{pooled.column}'), not one cell")
    some = f" (of {len(drawn):,} drawn)" if len(drawn) < n else ""
    evidence = "; ".join([f"median of {genes:,} genes a {unit}{some}", *notes])
    what = f"{n:,} {unit}" + ("" if n == 1 else "s")
    return Finding("cells", what, evidence, (), "note" if notes else "ok"), labels, unit


def _genes_per_row(matrix: RowMatrix, rows: np.ndarray) -> np.ndarray:
    """Number of values other than 0 in some rows, read in blocks."""
    blocks = [matrix.rows(rows[start : start + _SAMPLE]) for start in range(0, len(rows), _SAMPLE)]
    return np.concatenate([np.bincount(block.nonzero()[0], minlength=block.shape[0]) for block in blocks])


def _pooled(obs: pd.DataFrame) -> _Pooled | None:
    """The column that says that rows are sums of several cells."""
    for column in obs.columns:
        if _POOLED.fullmatch(column.lower()) and obs[column].dtype.kind in "iuf":
            low, high = obs[column].min(), obs[column].max()
            if low > 1:
                return _Pooled(column, f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}")
    return None


# So many columns may be of one gene: a second one is common (two ids of one symbol).
FEW_COLUMNS = 2
_PLACEHOLDER = re.compile(
    r"-+|\?+|\.+|_+|#+|N/?A|NAN|NONE|NULL|UNKNOWN.*|UNNAMED.*|UNANNOTATED|NOVEL|GENE|SYMBOL|NO[ _-]?NAME|TBD"
    r"|#N/A|0",
    re.IGNORECASE,
)


def _merged(names: np.ndarray, columns: GeneColumns, counts: np.ndarray) -> tuple[str, bool]:
    """What is said of symbols that several columns have, the fullest first, and whether it is a warning."""
    symbol_G = np.empty(columns.n_genes, dtype=object)
    symbol_G[columns.target] = names
    order = np.argsort(-counts, kind="stable")[: int((counts > 1).sum())]
    odd = [g for g in order.tolist() if counts[g] > FEW_COLUMNS or _PLACEHOLDER.fullmatch(str(symbol_G[g]))]
    how = (
        "the largest value is kept (logarithms cannot be summed)"
        if columns.take_maximum
        else "values are summed"
    )
    named = ", ".join(f"'{symbol_G[g]}' ({counts[g]:,} columns)" for g in (odd or order.tolist())[:3])
    more = f" and {len(odd or order) - 3:,} more" if len(odd or order) > 3 else ""
    said = (
        f"{int(counts[order].sum()):,} columns have {len(order):,} symbol{'' if len(order) == 1 else 's'} "
        f"between them (occur more than once after upper-casing): {named}{more}; {how}, one gene a symbol"
    )
    if odd:
        said += (
            ". So many columns of one symbol are hardly one gene: check whether it stands for genes without "
            "a name, and whether another column (such as the ids) names each"
        )
    return said, bool(odd)


def gene_finding(names: np.ndarray, columns: GeneColumns, named: NamedGenes) -> Finding:
    """How many genes there are, which were mended, merged, have no symbol or are in doubt. `names` [n_vars]
    are those that are used, upper case."""
    notes = [*named.warnings, *named.notes]
    counts = np.bincount(columns.target, minlength=columns.n_genes)
    crowded = False
    if (counts > 1).any():
        said, crowded = _merged(names, columns, counts)
        notes.insert(0, said) if crowded else notes.append(said)
    if named.n_by_id:
        notes.append(f"{named.n_by_id:,} genes have no symbol and keep their id")
    if columns.n_genes <= PANEL:
        notes.append("a panel or a selection of genes, not the whole transcriptome")
    level = "warning" if named.warnings or crowded else "note" if notes else "ok"
    return Finding(
        "genes", f"{columns.n_genes:,} genes", "; ".join(notes) or "all symbols are different", (), level
    )
