"""The verdicts of an atlas beside those of random directions: a share alone says nothing of the features."""

from __future__ import annotations

from matplotlib.figure import Figure

from scx_core.atlas import VERDICTS, Atlas, excess
from scx_core.atlas.judge.excess import points
from scx_core.atlas.judge.protocol import DEAD
from scx_core.errors import ScxError

from .drawing import colours

WIDTH, ROW, EDGE = 7.0, 0.42, 1.1  # inches


def excess_figure(atlas: Atlas) -> Figure:
    """One row a verdict that any feature or direction has: its share of the live features, the mean of the
    random directions with their lowest and highest draw, and the excess with its 95% interval, in points of a
    hundred.

    Raises ScxError for an atlas without random directions.
    """
    table = excess(atlas)
    if not len(table):
        raise ScxError("This atlas has no random directions to hold shares against.", "Make it with some.")
    of_live = [verdict for verdict in VERDICTS if verdict != DEAD]
    rows = table[(table["layer"] == -1) & table["measure"].isin(of_live)]
    rows = rows[(rows["share"] > 0) | (rows["random_high"] > 0)]
    figure = Figure(figsize=(WIDTH, ROW * len(rows) + EDGE), layout="constrained")
    axes = figure.add_subplot()
    for y, (_, row) in enumerate(rows.iterrows()):
        low, mean, high = (100 * row[name] for name in ("random_low", "random", "random_high"))
        axes.plot([low, high], [y, y], color=colours.MUTED, linewidth=1.2)
        axes.plot(mean, y, "D", color=colours.PAPER, markeredgecolor=colours.INK, markersize=5)
        axes.plot(100 * row["share"], y, "o", color=colours.INK, markersize=6)
        axes.text(1.02, y, points(row), transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), rows["measure"])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("% of live features (dot), random directions (diamond, lowest to highest draw)")
    features, draws = int(rows["features"].iloc[0]), int(rows["draws"].iloc[0])
    axes.set_title(
        f"Verdicts of {features:,} live features beside {draws} draws; right: excess [95%]", fontsize=9
    )
    return figure
