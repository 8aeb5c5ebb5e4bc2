"""The gene table: as a data frame for the page, and as CSV with the provenance in a file beside it.

Spreadsheets run a cell that begins with = + - or @, so a text that does gets an apostrophe in front.
The provenance is not in the CSV, where it would be a comment that not every reader skips.
"""

from __future__ import annotations

import pandas as pd

from scx_core.cells.markers import known_markers, shared_markers
from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.figures.drawing.text import plain

from . import words
from .leading import Leading, leading, led

_MEASURED = {
    "gap": "knockout_gap",
    "text": "knockout_text",
    "gap_log_odds": "knockout_gap_log_odds",
    "text_log_odds": "knockout_text_log_odds",
    "estimate": "estimated_knockout",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def gene_table(
    circuit: Circuit,
    markers: frozenset[str] | None = None,
    shared: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """One row a gene, strongest first, by the column that leads (leading.py).

    Columns: gene; where it was measured, what the real model loses without it (knockout_gap, knockout_text,
    and of the label's log-odds knockout_gap_log_odds, knockout_text_log_odds) or estimated_knockout, each
    with _low, _high and _n; frozen_attribution (in the target's unit) with its direction (`words.direction`:
    only what has q < 0.05 differs),
    share_of_cells, n_cells, sd, low, high, p, q, rank (in the sentence; mean in a consensus), known_marker.
    p and q are empty for one cell. `markers` are those of the cell type, None when there
    is no list for it; `shared` are those of them that mark another type as well.
    """
    by = leading(circuit)
    rows = sorted(circuit.genes, key=lambda row: (-_strength(row, by), row.gene))
    return pd.DataFrame(
        {"gene": pd.Series([row.gene for row in rows], dtype=object)}
        | _measured(rows)
        | {
            "frozen_attribution": pd.Series([row.effect for row in rows], dtype=float),
            "direction": pd.Series(
                [words.direction(circuit, row.effect, row.q) for row in rows], dtype=object
            ),
            "share_of_cells": pd.Series([row.share for row in rows], dtype=float),
            "n_cells": pd.Series([row.n_cells for row in rows], dtype=int),
            "sd": pd.Series([row.sd for row in rows], dtype=float),
            "low": pd.Series([row.low for row in rows], dtype=float),
            "high": pd.Series([row.high for row in rows], dtype=float),
            "p": pd.Series([row.p for row in rows], dtype=float),
            "q": pd.Series([row.q for row in rows], dtype=float),
            "rank": pd.Series([row.rank for row in rows], dtype=float),
            "known_marker": pd.Series(
                [_known(row.gene, circuit, markers, shared) for row in rows], dtype=object
            ),
        }
    )


def _strength(row: GeneEffect, by: Leading) -> float:
    shown = led(row, by)
    return abs(shown.effect) if shown else -1.0


def _measured(rows: list[GeneEffect]) -> dict[str, pd.Series]:
    """The columns of what was measured or estimated; none for what no gene has."""
    out = {}
    for field, name in _MEASURED.items():
        found = [getattr(row, field) for row in rows]
        if any(one is not None for one in found):
            for part, end in (("mean", ""), ("low", "_low"), ("high", "_high"), ("n", "_n")):
                values = [None if one is None else getattr(one, part) for one in found]
                out[name + end] = pd.Series(values, dtype=float)
    return out


def markers_of(circuit: Circuit) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The known markers of the circuit's cell type, None without a list, and those that other types share."""
    known = known_markers(circuit.target.answer)
    return (known.genes, shared_markers(circuit.target.answer)) if known else (None, frozenset())


def _known(gene: str, circuit: Circuit, markers: frozenset[str] | None, shared: frozenset[str]) -> str:
    if markers is None:
        return "unknown"
    if gene not in markers:
        return "no"
    return "shared" if gene in shared else f"yes — {plain(circuit.target.answer)}"


def table_csv(table: pd.DataFrame) -> bytes:
    """The table as UTF-8 CSV with a byte order mark, which spreadsheets need and pandas skips."""
    safe = table.copy()
    for column in safe.columns:
        if safe[column].dtype == object:
            safe[column] = [_guarded(value) for value in safe[column]]
    return safe.to_csv(index=False, lineterminator="\n").encode("utf-8-sig")


def _guarded(value: object) -> object:
    """The text on one line, with an apostrophe in front where a spreadsheet would compute it."""
    if not isinstance(value, str):
        return value
    line = plain(value)
    return f"'{line}" if value.startswith(_FORMULA_STARTS) or line.startswith(_FORMULA_STARTS) else line
