"""What an atlas may say of its features: claims with the rival that could do as well, and the same as tables.

`scx atlas --report FILE` writes the tables that docs/features.md shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scx_core.atlas.judge.excess import excess, is_random, points
from scx_core.atlas.judge.protocol import (
    MEASURES,
    VERDICTS,
)
from scx_core.atlas.tables.atlas import Atlas

ALL = -1


def report(atlas: Atlas) -> str:
    """All shares beside their rivals, by layer, and by number of cells, as Markdown."""
    held = excess(atlas)
    if held.empty:
        return "Made without random directions: no share has a rival."
    return "\n\n".join([_whole(held), _by_layer(held), _by_cells(atlas.table("curve"))])


def _whole(held: pd.DataFrame) -> str:
    """One row a measure and verdict, over all layers."""
    fixed = {"measure", "layer", "share", "features", "random", "random_low", "random_high", "draws"}
    others = [name for name in held if name not in fixed | {"excess", "low", "high"}]
    rows = held[held["layer"] == ALL].set_index("measure")
    n, draws = int(rows["features"].iloc[0]), int(rows["draws"].iloc[0])
    head = ["", f"features (n {n:,})", f"random directions ({draws} draws)", "excess, points [95%]", *others]
    lines = []
    for measure in (*MEASURES, *VERDICTS):
        if measure in rows.index:
            row = rows.loc[measure]
            spread = (
                f"{_percent(row['random'])} ({_percent(row['random_low'])} to {_percent(row['random_high'])})"
            )
            name = f"**{measure}**" if measure in MEASURES else measure
            cells = [name, _percent(row["share"]), spread, points(row)]
            lines.append([*cells, *(_percent(row[other]) for other in others)])
    return _table(head, lines)


def _by_layer(held: pd.DataFrame) -> str:
    """Features / random directions, and the excess, of each measure in each layer."""
    layers = sorted(set(held["layer"]) - {ALL})
    rows = held.set_index(["measure", "layer"])
    lines = []
    for measure in MEASURES:
        cells = [
            f"{_percent(row['share'])} / {_percent(row['random'])}: {points(row)}"
            for row in (rows.loc[(measure, layer)] for layer in layers)
        ]
        lines.append([measure, *cells])
    return _table(["features / random directions: excess", *(f"layer {layer}" for layer in layers)], lines)


def _by_cells(curve: pd.DataFrame) -> str:
    """Features / mean of the random draws, after so many cells."""
    whole = curve[curve["layer"] == ALL].astype({"source": str, "measure": str})
    cells = sorted(set(whole["cells"]))
    lines = []
    for measure in MEASURES:
        here = whole[whole["measure"] == measure]
        drawn = here[here["source"].map(is_random)].groupby("cells")["share"].mean()
        own = here[here["source"] == "main"].set_index("cells")["share"]
        lines.append([measure, *(f"{_percent(own[n])} / {_percent(drawn[n])}" for n in cells)])
    return _table(["features / random directions", *(f"{n} cells" for n in cells)], lines)


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{100 * share:.1f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
