"""Each share of an atlas beside its rivals: what directions drawn at random give, the embedding's directions,
the one-hot of the token, raw neurons and other sets; and by how much the features exceed the random ones.

`scx atlas --report FILE` writes the tables that docs/features.md shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scx_core.atlas.collect.directions import EMBEDDING, ONE_HOT, RANDOM
from scx_core.atlas.collect.token_slots import DATA
from scx_core.atlas.collect.token_slots import REAL as REAL_DATA
from scx_core.atlas.judge.protocol import (
    MEASURES,
    VERDICTS,
    verdict_shares,
)
from scx_core.atlas.tables.atlas import Atlas

MAIN = "main"
LEVEL = 0.95
ALL_LAYERS = -1
REAL = DATA[REAL_DATA]
RANDOM_WORDS, EMBEDDING_WORDS = "random directions", "embedding's directions"
ONE_HOT_WORDS = "token's one-hot"


class ExcessInterval(NamedTuple):
    """By how much a share exceeds those of the draws, with the limits of its interval."""

    excess: float
    low: float
    high: float


def excess(atlas: Atlas) -> pd.DataFrame:
    """One row a layer (−1: all) and measure: measure, layer, share, features (live ones), random (mean of the
    draws), random_low and random_high (the lowest and highest draw), draws, excess, low, high, then the
    share of each other source. Measures are those of `protocol.MEASURES`, then the verdicts. Empty for an
    atlas that was made without random directions."""
    rows = _all_shares(atlas)
    random = sorted({name for name in rows["source"] if is_random(name)})
    if not random:
        return pd.DataFrame()
    others = [name for name in dict.fromkeys(rows["source"]) if name not in (*random, MAIN)]
    by_source = rows.set_index(["measure", "layer", "source"])[["share", "features"]]
    share_of = by_source["share"].to_dict()
    found = []
    known = set(rows.loc[rows["source"].map(is_random), "measure"])  # a short form has no verdicts of theirs
    for measure in dict.fromkeys(one for one in rows["measure"] if one in known):
        for layer in sorted(set(rows["layer"])):
            share, n = by_source.loc[(measure, layer, MAIN)]
            drawn = by_source.loc[[(measure, layer, name) for name in random]]
            found.append(
                {
                    "measure": measure,
                    "layer": layer,
                    "share": share,
                    "features": int(n),
                    "random": float(drawn["share"].mean()),
                    "random_low": float(drawn["share"].min()),
                    "random_high": float(drawn["share"].max()),
                    "draws": len(random),
                    **interval(share, n, drawn["share"], drawn["features"])._asdict(),
                    **{name: share_of.get((measure, layer, name), float("nan")) for name in others},
                }
            )
    return pd.DataFrame(found)


def points(row: Mapping[str, Any] | pd.Series) -> str:
    """An excess in points of a hundred with its interval, "+7.9 [+6.1, +9.7]"."""
    low, high = 100 * row["low"], 100 * row["high"]
    return f"{100 * row['excess']:+.1f} [{low:+.1f}, {high:+.1f}]"


def is_random(source: str) -> bool:
    """Whether a source is a draw of random directions."""
    return source.startswith(RANDOM) and source[len(RANDOM) :].isdigit()


def interval(share: float, n: float, drawn: Sequence[float], drawn_n: Sequence[float]) -> ExcessInterval:
    """The excess over the mean of the draws with its 95 % interval (Welch): the features' variance is that of
    a share of n; the draws' is what they differ by, and at least that of a share of theirs."""
    share_D, m = np.asarray(drawn, dtype=float), len(drawn)
    mean, size = float(share_D.mean()), max(float(np.mean(drawn_n)), 1.0)
    own = share * (1 - share) / max(n, 1)
    between = float(share_D.var(ddof=1)) if m > 1 else 0.0
    other = max(between, mean * (1 - mean) / size) / m
    both = own + other
    if both == 0:
        return ExcessInterval(share - mean, share - mean, share - mean)
    freedom = both**2 / (own**2 / max(n - 1, 1) + other**2 / max(m - 1, 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * both**0.5
    return ExcessInterval(share - mean, share - mean - half, share - mean + half)


def _all_shares(atlas: Atlas) -> pd.DataFrame:
    """Rows source, layer, measure, share, features: measures after the last cell, then verdicts."""
    curve = atlas.table("curve")
    if "source" not in curve:
        return pd.DataFrame(columns=["source", "layer", "measure", "share", "features"])
    measures = curve[curve["cells"] == curve["cells"].max()].drop(columns="cells")
    by_source = {MAIN: atlas.features} | {name: other.features for name, other in atlas.beside.items()}
    baselines = atlas.table("baselines")
    if len(baselines):
        by_source |= dict(list(baselines.groupby("source", observed=True, sort=False)))
    kinds = {name: table[["layer", "verdict"]].astype({"verdict": str}) for name, table in by_source.items()}
    shares = verdict_shares(kinds).rename(columns={"data": "source", "verdict": "measure"})
    order = {name: place for place, name in enumerate(VERDICTS)}
    shares = shares.assign(order=shares["measure"].map(order)).sort_values(["order", "layer"], kind="stable")
    both = pd.concat([measures.astype({"source": str, "measure": str}), shares.drop(columns="order")])
    return both.reset_index(drop=True)


def compared_shares(atlas: Atlas) -> pd.DataFrame:
    """Rows layer (−1: all), data, verdict, share, features (live ones): the real data, the baselines (of
    random directions the mean of the draws), both nulls, then the real data of each atlas beside it under
    that one's name. The choosing half is left out."""
    own = atlas.shares
    nulls = own[own["data"].isin(DATA) & (own["data"] != REAL)]
    parts = [own[own["data"] == REAL], *_baselines(atlas), nulls]
    for name, other in atlas.beside.items():
        real = other.shares
        parts.append(real[real["data"] == REAL].assign(data=name))
    return pd.concat([part.astype({"data": str, "verdict": str}) for part in parts], ignore_index=True)


def _baselines(atlas: Atlas) -> list[pd.DataFrame]:
    rows = atlas.table("baselines")
    if not len(rows):
        return []
    by_source = {str(name): part for name, part in rows.groupby("source", observed=True, sort=False)}
    shares = {name: verdict_shares({name: part.astype({"verdict": str})}) for name, part in by_source.items()}
    drawn = pd.concat([one for name, one in shares.items() if is_random(name)])
    mean = drawn.groupby(["layer", "verdict"], sort=False, as_index=False)[["share", "features"]].mean()
    words = {EMBEDDING: EMBEDDING_WORDS, ONE_HOT: ONE_HOT_WORDS}
    rest = [shares[name].assign(data=label) for name, label in words.items()]
    return [mean.assign(data=RANDOM_WORDS).astype({"features": int})[rest[0].columns], *rest]


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
    rows = held[held["layer"] == ALL_LAYERS].set_index("measure")
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
    layers = sorted(set(held["layer"]) - {ALL_LAYERS})
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
    whole = curve[curve["layer"] == ALL_LAYERS].astype({"source": str, "measure": str})
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
