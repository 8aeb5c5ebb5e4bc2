"""Rows of a Parquet file that is sorted by a column of texts: only groups that can hold the text are read.

Arrow's own filters do the same for numbers, but read all groups where the texts are held by dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scx_core.errors import ScxError


def rows_where(path: Path, column: str, text: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of the rows whose `column` is `text`. Raises ScxError for a damaged file."""
    try:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.get_field_index(column)
            groups = [n for n in range(file.num_row_groups) if _may_hold(file.metadata, n, place, text)]
            found = file.read_row_groups(groups, columns=[*columns, column])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    return found.filter(pc.equal(found[column].cast(pa.string()), text)).select(list(columns))


def _may_hold(metadata: pq.FileMetaData, group: int, place: int, text: str) -> bool:
    known = metadata.row_group(group).column(place).statistics
    return known is None or not known.has_min_max or known.min <= text <= known.max


def unreadable(path: Path, error: Exception) -> ScxError:
    """What is said of an atlas' file that is damaged."""
    problem = f"{path} could not be read ({str(error)[:120]})."
    return ScxError(problem, "Make the atlas anew with `scx atlas`.")
