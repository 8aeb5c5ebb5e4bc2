"""Joins a table of labels (CSV or TSV) to cells, for formats such as 10x that hold none."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from ..errors import ScxError
from .reading import reading


def join_labels(obs: pd.DataFrame, labels_file: str, name: str) -> pd.DataFrame:
    """obs with the columns of the file. Its first column holds the cell ids; "-1" at their end may lack.

    Cells that the file does not name stay without a label. Raises ScxError when the file is missing,
    has one column only, names a cell twice, or names none of the cells.
    """
    path = Path(labels_file).expanduser()
    if not path.is_file():
        raise ScxError(f"There is no labels file {path}.", "Check the path.")
    with reading(f"The labels file {path.name}"):
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, index_col=0, encoding="utf-8-sig")
    if not table.shape[1]:
        raise ScxError(
            f"{path.name} has one column only.", "Give a CSV with cell ids first, then 'cell_type'."
        )
    table.index = table.index.astype(str).str.strip()
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ScxError(f"{path.name} names the cell '{twice}' twice.", "Keep one line a cell.")
    ids = obs.index.astype(str)
    if not ids.isin(table.index).any():
        ids = pd.Index([re.sub(r"-\d+$", "", one) for one in ids])
    if not ids.isin(table.index).any():
        raise ScxError(
            f"{path.name} names none of the cells of {name} (it has '{table.index[0]}', the cells are like "
            f"'{obs.index[0]}').",
            "Its first column must hold the cell ids (barcodes).",
        )
    joined = table.reindex(ids).set_axis(obs.index, axis=0)
    return pd.concat([obs.drop(columns=[c for c in joined.columns if c in obs.columns]), joined], axis=1)
