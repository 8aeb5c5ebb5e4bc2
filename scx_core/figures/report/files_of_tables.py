"""Tables of a report as CSV: plain numbers, one file a table."""

from __future__ import annotations

import pandas as pd

from scx_core.figures.report.parts import Table
from scx_core.figures.table import table_csv


def table_bytes(table: Table) -> bytes:
    """All rows and all their values as CSV (UTF-8 with a mark; text that a spreadsheet would compute
    guarded)."""
    keys = list(dict.fromkeys(key for row in table.rows for key in row))
    return table_csv(pd.DataFrame({key: [row.get(key) for row in table.rows] for key in keys}))
