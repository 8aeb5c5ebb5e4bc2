"""What an atlas may say of its features: claims with the rival that could do as well, and the same as tables.

`scx atlas --report FILE` writes the tables that docs/features.md shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scx_core.atlas.judge.excess import excess, is_random, points
from scx_core.atlas.judge.protocol import (
    AT_GENES,
    BEYOND_TOKEN,
    BY_CONTEXT,
    BY_TOKEN,
    FAMILY,
    GENE,
    IN_TYPE,
    MEASURES,
    VERDICTS,
)
from scx_core.atlas.tables.atlas import Atlas
from scx_core.statistics.claim import Claim

ALL = -1
SENTENCES = {
    AT_GENES: "More features than random directions fire at a few genes",
    BEYOND_TOKEN: "More features than random directions fire at a few genes and are more than a token",
    BY_TOKEN: "More features than random directions are a table by token",
    BY_CONTEXT: "More features than random directions read other genes than the one they stand at",
    IN_TYPE: "More features than random directions fire in one cell type",
    GENE: "The verdict gene tells features from random directions",
    FAMILY: "The verdict family tells features from random directions",
}
ONE_HOT_SENTENCE = "More features than tokens (one-hot) fire at a few genes"
OWN_LAYER = "Layer {layer}: more features than random directions fire at a few genes"


def atlas_claims(atlas: Atlas) -> list[Claim]:
    """The sentences that an atlas supports or refuses. One holds when the whole interval of the excess over
    random directions lies above 0. `figure` and `baseline` are shares, `interval` that of the excess, `n` the
    live features. Empty for an atlas without random directions."""
    held = excess(atlas)
    if held.empty:
        return []
    rows = held.set_index(["measure", "layer"])
    found = [
        _claim(sentence, rows.loc[(measure, ALL)])
        for measure, sentence in SENTENCES.items()
        if (measure, ALL) in rows.index
    ]
    layers = sorted({layer for _, layer in rows.index if layer != ALL})
    found += [_claim(OWN_LAYER.format(layer=layer), rows.loc[(AT_GENES, layer)]) for layer in layers]
    row = rows.loc[(AT_GENES, ALL)]
    if "onehot" in row:
        share, one_hot = float(row["share"]), float(row["onehot"])
        found.append(
            Claim(
                ONE_HOT_SENTENCE,
                share,
                one_hot,
                "the token's one-hot",
                None,
                int(row["features"]),
                share > one_hot,
            )
        )
    for one in atlas.meta.get("gene_sets", {}).get("rule", ()):
        if one["rival"] == "random directions":
            sentence = f"More features than random directions meet the rule for gene sets ({one['of']})"
            found.append(_claim(sentence, pd.Series({**one, "random": one["rival_share"]})))
    return found


def _claim(sentence: str, row: pd.Series) -> Claim:
    interval = float(row["low"]), float(row["high"])
    beside = f"random directions at equal firing rates ({int(row['draws'])} draws); interval of the excess"
    figures = float(row["share"]), float(row["random"])
    return Claim(sentence, *figures, beside, interval, int(row["features"]), interval[0] > 0)


def report(atlas: Atlas) -> str:
    """All shares beside their rivals, by layer, and by number of cells, as Markdown."""
    return report_of(excess(atlas), atlas.table("curve"))


def report_of(held: pd.DataFrame, curve: pd.DataFrame) -> str:
    """`report` of the tables that it rests on (`excess`, `curve.parquet`)."""
    if held.empty:
        return "Made without random directions: no share has a rival."
    parts = [_whole(held), _by_layer(held), _by_cells(curve)]
    return "\n\n".join(parts)


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
