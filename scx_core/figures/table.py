"""The numbers of a circuit: its gene table (as a data frame, and as CSV with the provenance in a file beside
it), which of its columns leads, and the answer's score as a sum.

Measured leads estimated leads frozen: what the real model loses without a gene comes first where it was
measured (method §8); the frozen attribution stands behind it.

Spreadsheets run a cell that begins with = + - or @, so a text that does gets an apostrophe in front.
The provenance is not in the CSV, where it would be a comment that not every reader skips.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import pandas as pd

from scx_core.cells.markers import known_markers, shared_markers
from scx_core.circuits.circuit import LEAST_HOLDERS, Circuit, GeneEffect
from scx_core.figures.drawing.text import plain

from . import captions

Leading = Literal["gap", "text", "estimate", "frozen"]
TITLES: dict[Leading, str] = {
    "gap": "lost without the gene (a neutral one in its place)",
    "text": "lost without the gene (the rest moved up)",
    "estimate": "estimated loss without the gene",
    "frozen": "frozen attribution",
}
_MEASURED = {
    "gap": "knockout_gap",
    "text": "knockout_text",
    "gap_log_odds": "knockout_gap_log_odds",
    "text_log_odds": "knockout_text_log_odds",
    "estimate": "estimated_knockout",
}
# The columns that lead a table, the first that is there, with their titles.
LEADING = {_MEASURED[name]: TITLES[name] for name in ("gap", "text", "estimate")}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

PARTS = (
    ("genes", "gene_effect"),
    ("prompt words", "prompt_effect"),
    ("reconstruction errors", "error_effect"),
    ("biases", "bias_effect"),
)


def gene_table(
    circuit: Circuit,
    markers: frozenset[str] | None = None,
    shared: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """One row a gene, strongest first, by the column that leads (`leading`).

    Columns: gene; where it was measured, what the real model loses without it (knockout_gap, knockout_text,
    and of the label's log-odds knockout_gap_log_odds, knockout_text_log_odds) or estimated_knockout, each
    with _low and _high: the mean over all cells, 0 where the gene is absent, as the frozen attribution's is;
    then the mean over the _n cells that hold the gene (_holders, _holders_low, _holders_high). What fewer
    than LEAST_HOLDERS cells hold stands behind the others then. frozen_attribution (in the target's unit)
    with its direction (`words.direction`: only what has q < 0.05 differs),
    share_of_cells, n_cells, sd, low, high, p, q, rank (in the sentence; mean in a consensus), known_marker.
    p and q are empty for one cell. `markers` are those of the cell type, None when there
    is no list for it; `shared` are those of them that mark another type as well.
    """
    by = leading(circuit)
    rows = sorted(circuit.genes, key=lambda row: _place(circuit, row, by))
    return pd.DataFrame(
        {"gene": pd.Series([row.gene for row in rows], dtype=object)}
        | _measured(rows)
        | {
            "frozen_attribution": pd.Series([row.effect for row in rows], dtype=float),
            "direction": pd.Series(
                [captions.direction(circuit, row.effect, row.q) for row in rows], dtype=object
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


def _place(circuit: Circuit, row: GeneEffect, by: Leading) -> tuple[bool, bool, float, str]:
    """By strength; then what too few cells hold, then what has no value."""
    missing = by != "frozen" and getattr(row, by) is None
    return missing, held_by_few(circuit, row, by), -_strength(row, by), row.gene


def _strength(row: GeneEffect, by: Leading) -> float:
    shown = led(row, by)
    return abs(shown.effect) if shown else -1.0


_ENDS = (("mean", ""), ("low", "_low"), ("high", "_high"), ("n", "_n"))
_HOLDERS = (("mean", "_holders"), ("low", "_holders_low"), ("high", "_holders_high"))


def _measured(rows: list[GeneEffect]) -> dict[str, pd.Series]:
    """The columns of what was measured or estimated; none for what no gene has."""
    out = {}
    for field, name in _MEASURED.items():
        found = [getattr(row, field) for row in rows]
        if any(one is not None for one in found):
            for ends, of in ((_ENDS, [row.per_cell(field) for row in rows]), (_HOLDERS, found)):
                for part, end in ends:
                    values = [None if one is None else getattr(one, part) for one in of]
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
    safe.columns = pd.Index([_guarded(name) for name in safe.columns])
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


def leading(circuit: Circuit) -> Leading:
    """The first of `gap`, `text` and `estimate` that any gene has, else the frozen attribution."""
    if circuit.scope != "difference":
        for name in ("gap", "text", "estimate"):
            if any(getattr(row, name) is not None for row in circuit.genes):
                return name  # type: ignore[return-value]
    return "frozen"


def held_by_few(circuit: Circuit, row: GeneEffect, by: Leading) -> bool:
    """Whether so few of the circuit's cells hold the gene that what was measured of it leads no ranking."""
    found = None if by == "frozen" else getattr(row, by)
    return found is not None and found.n < min(LEAST_HOLDERS, circuit.n_cells)


def led(row: GeneEffect, by: Leading) -> GeneEffect | None:
    """The gene with the leading column's mean over all cells (0 where absent, as the frozen attribution's is)
    and its interval in the place of its frozen attribution; None where it has none."""
    if by == "frozen":
        return row
    found = row.per_cell(by)
    if found is None:
        return None
    return row._replace(effect=found.mean, low=found.low, high=found.high, sd=0.0, n_cells=found.n)


class Part(NamedTuple):
    """One summand in logits. `share` is of the sum of the absolute summands, so that opposite signs show."""

    name: str
    effect: float
    share: float


def account(circuit: Circuit) -> tuple[Part, ...]:
    """The summands of the score (total effects, method §8); none if the circuit does not state them. What the
    answer's own earlier tokens add (`answer_effect`, of `prompt_effect`) stands apart: they are given to the
    model before the token that decides, and are no words of the prompt. An older file does not part them."""
    if not all(key in circuit.scores for _, key in PARTS):
        return ()
    effects = {name: circuit.scores[key] for name, key in PARTS}
    own = circuit.scores.get("answer_effect")
    if own:
        before = {"genes": effects["genes"], "prompt words": effects["prompt words"] - own}
        effects = before | {"answer words given": own} | {n: x for n, x in effects.items() if n not in before}
    elif own is None:
        both = "prompt and answer words"
        effects = {(both if name == "prompt words" else name): x for name, x in effects.items()}
    total = sum(map(abs, effects.values())) or 1.0
    return tuple(Part(name, effect, abs(effect) / total) for name, effect in effects.items())
