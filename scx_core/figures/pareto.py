"""Training runs on the field's Pareto plot: what replacing the MLPs costs against how many features it takes.

Across: L0, active features a token (log). Up: 1 − CE recovered (log), with CE recovered on the right; to the
left and down is better. A line a kind joins the runs of it that no other run of that kind beats in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from scx_core.cells.choices import as_names
from scx_core.errors import ScxError
from scx_core.figures.drawing.pen import PICTURE_FORMATS, POINTS_PER_UNIT, Pen, picture_bytes
from scx_core.figures.drawing.placing import Label, labels_placed
from scx_core.figures.drawing.text import fitted, one_row, plain, several, wrapped
from scx_core.runs.files import to_json_text, write_atomic

from . import captions
from .drawing import colours
from .table import table_csv

PARETO_FORMATS = (*PICTURE_FORMATS, "csv")
WIDTH, HEIGHT = 1000.0, 640.0
LEFT, TOP, RIGHT, BOTTOM = 92.0, 118.0, 92.0, 112.0
_EDGE, _SIZE = 14.0, 12.0
_ACROSS = 3  # legend entries in a row: the longest name has room


class Style(NamedTuple):
    """Colour (Okabe and Ito's, told apart with every colour vision), marker and name of a kind."""

    colour: str
    marker: str
    name: str


STYLES = {
    "batchtopk": Style("#0072B2", "o", "BatchTopK"),
    "topk": Style("#D55E00", "s", "TopK"),
    "jumprelu": Style("#009E73", "^", "JumpReLU"),
    "relu": Style("#CC79A7", "D", "ReLU"),
}
FORMS = {"sae": ("#E69F00", "SAE"), "cross-layer": ("#56B4E9", "cross-layer")}


def pareto_figure(table: pd.DataFrame, provenance: Mapping[str, Any], into: Axes | None = None) -> Figure:
    """The figure of a table of `compare_runs`; a table without the column form is of transcoders. Runs that
    do not compare are left out, and it says so. `into`: axes of another figure that it is drawn in.

    Raises ScxError when no run has both figures.
    """
    shown, notes = _shown(table)
    pen = Pen(WIDTH, HEIGHT, into)
    room = WIDTH - 2 * _EDGE
    pen.text(_EDGE, 22.0, "Faithfulness against sparsity", 17.0, bold=True)
    under = "Every MLP replaced, on held-out cells. To the left and down is better."
    pen.text(_EDGE, 44.0, fitted(under, room, _SIZE), _SIZE, colour=colours.MUTED)
    axes = _axes(pen, shown, into is None)
    for (kind, form, skip), rows in shown.groupby(["kind", "form", "skip"], sort=True):
        style = style_of(str(kind), str(form))
        best = front(rows)
        axes.plot(
            best["l0"], best["loss"], color=style.colour, linewidth=1.0, linestyle=_dash(bool(skip)), zorder=3
        )
        for _, row in rows.iterrows():
            fill = style.colour if row["measured"] == "held-out" else colours.PAPER
            axes.plot(
                [row["l0"]], [row["loss"]], marker=style.marker, markersize=4.2, markerfacecolor=fill,
                markeredgecolor=style.colour, markeredgewidth=0.9, linestyle="none", zorder=4,
            )  # fmt: skip
    _legend(pen, shown)
    if not _names(pen, axes, shown):
        notes.append("names that found no room are in the table")
    y = HEIGHT - 46.0
    for line in wrapped("; ".join(notes), room, 10.5)[:2]:
        pen.text(_EDGE, y, line, 10.5, colour=colours.MUTED)
        y += 14.0
    line, size = one_row(captions.provenance_line(provenance), room)
    pen.text(_EDGE, HEIGHT - 14.0, line, size, colour=colours.MUTED)
    return pen.figure


def pareto_picture(table: pd.DataFrame, file_format: str, provenance: Mapping[str, Any]) -> bytes:
    """The figure as PNG, SVG or PDF, or the table as CSV. Raises ScxError for another format."""
    if file_format == "csv":
        return table_csv(table.drop(columns="folder"))  # a place on this machine says nothing elsewhere
    return picture_bytes(
        pareto_figure(table, provenance),
        file_format,
        title="Transcoder runs: CE recovered against L0",
        description=captions.provenance_line(provenance),
    )


def export_comparison(
    table: pd.DataFrame,
    folder: Path | str,
    provenance: Mapping[str, Any],
    formats: Iterable[str] = PARETO_FORMATS,
) -> list[Path]:
    """Write runs.png .svg .pdf .csv and runs.provenance.json into a folder; returns the files.

    Everything is made before the first file is written. Raises ScxError for an unknown format, or when there
    is nothing to draw.
    """
    folder, wanted = Path(folder), as_names(formats)
    unknown = [name for name in wanted if name not in PARETO_FORMATS]
    if unknown:
        raise ScxError(f"{unknown[0]!r} is not a format here.", f"Choose among {', '.join(PARETO_FORMATS)}.")
    contents = {folder / f"runs.{name}": pareto_picture(table, name, provenance) for name in wanted}
    contents[folder / "runs.provenance.json"] = (to_json_text(provenance, indent=1) + "\n").encode()
    for path, content in contents.items():
        write_atomic(path, content)
    return list(contents)


def _shown(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs that can be drawn, with their loss, and what is said about the others."""
    rows = table.assign(loss=1 - table["ce_recovered"], form=table.get("form", "transcoder"))
    measured = rows["l0"].notna() & rows["ce_recovered"].notna()
    on_scale = (rows["l0"] > 0) & (rows["loss"] > 0)
    shown = rows[measured & on_scale & rows["comparable"]]
    if shown.empty:
        raise ScxError("No run has an L0 and a CE recovered to draw.", "Train to the first measurement.")
    left_out = (
        (measured & ~rows["comparable"], "not drawn, as it would not compare (the table says why): {}"),
        (measured & ~on_scale & rows["comparable"], "not drawn, as its loss or its L0 is not above 0: {}"),
        (~measured, "without figures yet: {}"),
    )
    notes = [text.format(several(int(which.sum()), "run")) for which, text in left_out if which.any()]
    if (shown["measured"] != "held-out").any():
        notes.append("hollow: measured on a few cells while training")
    return shown, notes


def front(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that no other of these beats in both L0 and loss, by L0."""
    ordered = rows.sort_values(["l0", "loss"], kind="stable")
    best_before = ordered["loss"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["loss"] < best_before]


def _axes(pen: Pen, shown: pd.DataFrame, alone: bool) -> Axes:
    box = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
    place = pen.figure.add_axes if alone else pen.axes.inset_axes
    axes: Axes = place(box, facecolor="none", zorder=2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*_limits(shown["l0"]))
    axes.set_ylim(*_limits(shown["loss"]))
    size = 11.0 * pen.points
    axes.set_xlabel("L0, active features a token (mean of the layers)", fontsize=size, color=colours.INK)
    axes.set_ylabel("1 − CE recovered", fontsize=size, color=colours.INK)
    right = axes.secondary_yaxis("right", functions=(lambda y: y, lambda y: y))
    right.set_ylabel("CE recovered", fontsize=size, color=colours.INK)
    doubling, decimal = {"base": 2.0, "numticks": 12}, {"subs": (1.0, 2.0, 5.0), "numticks": 12}
    ticks = ((axes.xaxis, doubling, _plain_tick), (axes.yaxis, decimal, _plain_tick))
    for axis, where, text in (*ticks, (right.yaxis, decimal, _recovered_tick)):
        axis.set_major_locator(LogLocator(**where))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(text))
    for part in (axes, right):
        part.tick_params(labelsize=10.5 * POINTS_PER_UNIT, colors=colours.MUTED, width=0.5, length=2.5)
        for spine in part.spines.values():
            spine.set(color=colours.FAINT, linewidth=0.6)
    axes.grid(True, color=colours.FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    return axes


def _plain_tick(value: float, _place: int | None) -> str:
    return f"{value:.6g}"


def _recovered_tick(loss: float, _place: int | None) -> str:
    return f"{1 - loss:.6g}".replace("-", "−")


def _limits(values: pd.Series) -> tuple[float, float]:
    """The values with room around them, and at least a factor of six from end to end."""
    low, high = float(values.min()), float(values.max())
    factor = max(1.35, (high / low) ** 0.12, (6 * low / high) ** 0.5)
    return low / factor, high * factor


def style_of(kind: str, form: str = "transcoder") -> Style:
    """The style of a kind; grey for one that has none. What is no transcoder has a colour of its own."""
    style = STYLES.get(kind, Style(colours.MUTED, "v", plain(kind, 20) or "other"))
    if form not in FORMS:
        return style
    colour, name = FORMS[form]
    return Style(colour, style.marker, f"{style.name} {name}")


def _legend(pen: Pen, shown: pd.DataFrame) -> None:
    """One entry a line, some to a row, above the axes."""
    marks = pen.figure.add_axes((0, 0, 1, 1), zorder=3)
    marks.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    marks.set_axis_off()
    columns = ["kind", "form", "skip"]
    lines = sorted({(str(kind), str(form), bool(skip)) for kind, form, skip in shown[columns].values})
    wide, high = (WIDTH - LEFT - RIGHT) / _ACROSS, min(20.0, 44.0 / -(-len(lines) // _ACROSS))
    for place, (kind, form, skip) in enumerate(lines):
        x, y = LEFT + place % _ACROSS * wide, 68.0 + place // _ACROSS * high
        style = style_of(kind, form)
        marks.plot([x, x + 34], [y, y], color=style.colour, linewidth=1.0, linestyle=_dash(skip))
        marks.plot([x + 17], [y], marker=style.marker, markersize=4.2, color=style.colour)
        pen.text(x + 42, y, style.name + (", affine skip" if skip else ""), 11.0)


def _dash(skip: bool) -> Any:
    return "-" if skip else (0, (4, 2))


def _names(pen: Pen, axes: Axes, shown: pd.DataFrame) -> bool:
    """Every run's name beside its point; False when one found no room."""
    points = list(_points(axes, shown))
    labels = labels_placed(points, (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))
    for label in labels:
        left, top, right, bottom = label.box
        behind = [(left, top), (right, top), (right, bottom), (left, bottom)]
        pen.polygon(behind, fill=colours.PAPER, line="none", alpha=0.72, order=8)
        pen.text(label.x, label.y, label.words, label.size, colour=colours.INK, order=9)
    pen.axes.set_zorder(5)
    pen.axes.patch.set_visible(False)
    return len(labels) == len(points)


def _points(axes: Axes, shown: pd.DataFrame) -> Iterator[Label]:
    """Where the points are, in the units of the pen, the best first: names go to them first."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    for _, row in shown.sort_values("loss", kind="stable").iterrows():
        across = np.log(row["l0"] / x0) / np.log(x1 / x0)
        up = np.log(row["loss"] / y0) / np.log(y1 / y0)
        x = LEFT + across * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        yield Label(float(x), float(y), plain(f"{row['run']} ({row['setting']})", 40), 10.0)
