"""The genes as a ranked bar chart: what raises the score and what lowers it apart, with intervals.

Bars are what was measured or estimated, where it was, the frozen attribution a diamond; else the latter.
And the verdicts of an atlas beside those of random directions: a share alone says nothing of the features.
"""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scx_core.atlas import VERDICTS, Atlas, excess
from scx_core.atlas.judge.excess import points
from scx_core.atlas.judge.protocol import DEAD
from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.errors import ScxError
from scx_core.figures.drawing.drawing import WIDTHS
from scx_core.figures.drawing.pen import Pen, picture_bytes, star
from scx_core.figures.drawing.text import fitted, number, one_row, plain, text_width

from . import captions
from .drawing import colours
from .table import TITLES, held_by_few, leading, led

_EDGE, _HEAD, _ROW, _GROUP = 14.0, 58.0, 22.0, 36.0
_SIZE = 12.0


def genes_figure(
    circuit: Circuit,
    *,
    markers: frozenset[str] = frozenset(),
    n: int = 12,
    size: Literal["wide", "column"] = "column",
    axes: Axes | None = None,
) -> Figure:
    """The `n` strongest genes of either sign. Whiskers: the interval low–high, else ± one sd, else none."""
    groups = [(title, rows) for title, rows in _by_sign(circuit, n) if rows]
    groups = groups or [("No difference found" if captions.sides(circuit) else "No genes", [])]
    shown = [row for _, rows in groups for row in rows]
    room = WIDTHS[size] - 2 * _EDGE
    height = _HEAD + sum(_GROUP + _ROW * len(rows) for _, rows in groups) + 108.0
    pen = Pen(WIDTHS[size], height, axes)
    pen.text(_EDGE, 20.0, fitted(captions.title(circuit), room, 17.0), 17.0, bold=True)
    pen.text(_EDGE, 41.0, fitted(captions.subtitle(circuit), room, _SIZE), _SIZE, colour=colours.MUTED)
    names = max((text_width(_name(row), _SIZE, bold=True) for row in shown), default=0.0) + 24.0
    by, frozen = leading(circuit), {row.gene: row.effect for row in circuit.genes}
    rings = [frozen[row.gene] for row in shown] if by != "frozen" else []
    scale = _Scale(shown, _EDGE + names, WIDTHS[size] - _EDGE - 52.0, rings)
    y = _HEAD
    for title, rows in groups:
        pen.text(_EDGE, y + 12.0, title, 11.0, colour=colours.MUTED)
        y += _GROUP
        for row in rows:
            _bar(pen, row, y, scale, row.gene in markers, _not_told(row, by))
            if by != "frozen":
                x = scale(frozen[row.gene])
                corners = [(x - 4.5, y), (x, y - 4.5), (x + 4.5, y), (x, y + 4.5)]
                pen.polygon(corners, fill=colours.PAPER, line=colours.INK, order=5)
            y += _ROW
    _axis(pen, scale, _HEAD + _GROUP - 15.0, y, f"{TITLES[by]}, {circuit.target.unit.removeprefix('of ')}")
    _foot(pen, circuit, shown, markers, y + 50.0, room)
    return pen.figure


def genes_picture(
    circuit: Circuit,
    file_format: str,
    *,
    markers: frozenset[str] = frozenset(),
    n: int = 12,
    size: Literal["wide", "column"] = "column",
) -> bytes:
    """The chart as PNG, SVG or PDF. Raises ScxError for another format."""
    figure = genes_figure(circuit, markers=markers, n=n, size=size)
    return picture_bytes(
        figure,
        file_format,
        title=f"Genes: {TITLES[leading(circuit)]}, {captions.title(circuit)}",
        description=captions.provenance_line(circuit.provenance),
    )


class _Scale:
    """Logits to units: room for the longest whisker on both sides, 0 always in it."""

    def __init__(self, rows: list[GeneEffect], left: float, right: float, rings: list[float]) -> None:
        reach = rings + [end for row in rows for end in (row.effect, *(interval(row) or ()))]
        self.low, self.high = min([0.0, *reach]), max([0.0, *reach])
        self.left, self.right = left, right
        self.span = (self.high - self.low) or 1.0

    def __call__(self, value: float) -> float:
        return self.left + (self.right - self.left) * (value - self.low) / self.span


def interval(row: GeneEffect) -> tuple[float, float] | None:
    """The interval low to high, else the mean ± sd, else nothing."""
    if row.low is not None and row.high is not None:
        return min(row.low, row.high), max(row.low, row.high)
    return (row.effect - row.sd, row.effect + row.sd) if row.sd else None


def _by_sign(circuit: Circuit, n: int) -> list[tuple[str, list[GeneEffect]]]:
    by = leading(circuit)
    enough = [row for row in circuit.genes if not held_by_few(circuit, row, by)]
    rows = [shown for row in enough if (shown := led(row, by))]
    rows.sort(key=lambda row: (-abs(row.effect), row.gene))
    both = captions.sides(circuit)
    if both:  # what is not called different is no bar, however long
        rows = [row for row in rows if captions.called(circuit, row.effect, row.q)]
    titles = [f"Effect higher in {plain(side, 28)}" for side in both or ()]
    titles = titles or ["Raise the score", "Lower the score"]
    return [
        (titles[0], [row for row in rows if row.effect > 0][:n]),
        (titles[1], [row for row in rows if row.effect < 0][:n]),
    ]


def _name(row: GeneEffect) -> str:
    return plain(row.gene, 16) or "(no name)"


def _not_told(row: GeneEffect, by: str) -> bool:
    """By the test of a frozen attribution; what was measured by its own interval."""
    if by == "frozen":
        return captions.not_told(row.q)
    return row.low is not None and row.high is not None and row.low <= 0 <= row.high


def _bar(pen: Pen, row: GeneEffect, y: float, scale: _Scale, marker: bool, not_told: bool) -> None:
    zero, end = scale(0.0), scale(row.effect)
    corners = [(zero, y - 7), (end, y - 7), (end, y + 7), (zero, y + 7)]
    colour = colours.BIAS_GREY if not_told else colours.sign_colour(row.effect)
    pen.polygon(corners, fill=colour, line=colour, alpha=0.78)
    pen.text(_EDGE + 18.0, y, _name(row), _SIZE, bold=marker)
    if marker:
        pen.polygon(star(_EDGE + 7.0, y, 6.5), fill=colours.MARKER_FILL, line=colours.MARKER_LINE)
    whisker = interval(row)
    reach = end
    if whisker:
        low, high = scale(whisker[0]), scale(whisker[1])
        pen.line((low, y), (high, y), colour=colours.INK, thickness=1.1, order=4)
        for x in (low, high):
            pen.line((x, y - 3), (x, y + 3), colour=colours.INK, thickness=1.1, order=4)
        reach = max(end, high)
    pen.text(max(reach, zero) + 6.0, y, number(row.effect, 2), 10.5, colour=colours.MUTED)


def _axis(pen: Pen, scale: _Scale, top: float, bottom: float, title: str) -> None:
    for value in MaxNLocator(nbins=5).tick_values(scale.low, scale.high):
        if not scale.low <= value <= scale.high:
            continue
        x, zero = scale(float(value)), abs(value) < 1e-12
        colour = colours.INK if zero else colours.FAINT
        order = 4 if zero else 0.5
        pen.line((x, top), (x, bottom), colour=colour, thickness=0.9, alpha=0.9, order=order)
        pen.text(x, bottom + 9.0, f"{value:g}".replace("-", "−"), 10.5, colour=colours.MUTED, align="center")
    middle = (scale.left + scale.right) / 2
    pen.text(middle, bottom + 26.0, title, 11.0, colour=colours.MUTED, align="center")


def _foot(
    pen: Pen, circuit: Circuit, shown: list[GeneEffect], markers: frozenset[str], y: float, room: float
) -> None:
    kinds = {
        "95% interval" if row.low is not None and row.high is not None else "± sd"
        for row in shown
        if interval(row)
    }
    words_of = {"cell": "one cell", "difference": "difference of means, {:,} cells"}
    parts = [words_of.get(circuit.scope, "mean over {:,} cells").format(circuit.n_cells)]
    parts += ["diamond: frozen attribution"] if leading(circuit) != "frozen" else []
    hidden = sum(not captions.called(circuit, row.effect, row.q) for row in circuit.genes)
    no_difference = f"{hidden:,} of {len(circuit.genes):,} genes: no difference found"
    parts += [no_difference] if captions.sides(circuit) else []
    parts += [f"grey: {captions.NOT_TOLD}"] if any(_not_told(row, leading(circuit)) for row in shown) else []
    parts += [f"whiskers: {' or '.join(sorted(kinds))}"] if kinds else []
    parts += ["star and bold: known marker"] if any(row.gene in markers for row in shown) else []
    pen.text(_EDGE, y, fitted("; ".join(parts), room, 10.5), 10.5, colour=colours.MUTED)
    counts = counts_of(circuit)
    if counts is not None and any(row.gene in markers for row in shown):
        beside, size = one_row(count_words(counts), room)
        pen.text(_EDGE, y + 16.0, beside, size, colour=colours.MUTED)
        y += 16.0
    line, size = one_row(captions.provenance_line(circuit.provenance), room)
    pen.text(_EDGE, y + 20.0, line, size, colour=colours.MUTED)


WIDTH, ROW, EDGE = 7.0, 0.42, 1.1  # inches


def excess_figure(atlas: Atlas, axes: Axes | None = None) -> Figure:
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
    if axes is None:
        figure = Figure(figsize=(WIDTH, ROW * len(rows) + EDGE), layout="constrained")
        axes = figure.add_subplot()
    else:
        figure = axes.get_figure(root=True)  # type: ignore[assignment]
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
