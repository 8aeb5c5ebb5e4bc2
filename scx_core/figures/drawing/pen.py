"""Drawing with matplotlib in the units of a drawing (0.18 mm): text, boxes, arrows, badges; and saving.

Only the object interface is used: no pyplot, so several figures can be made at once. The font is the one
that matplotlib carries, so that a figure looks the same on every machine; letters that it lacks come from
the machine's own fonts (`fonts`).
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.bezier import (
    NonIntersectingPathException,
    inside_circle,
    split_bezier_intersecting_with_closedpath,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from scx_core.errors import ScxError

from . import colours, fonts
from .drawing import MM_PER_UNIT
from .text import wrapped

POINTS_PER_UNIT = MM_PER_UNIT / 25.4 * 72
PICTURE_FORMATS = ("png", "svg", "pdf")
LEAST_UNITS = 5.0 / POINTS_PER_UNIT  # no text of a printed figure is smaller than 5 points
DPI = 300
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scX",
    "pdf.fonttype": 42,
    "font.family": fonts.OWN,
    "axes.unicode_minus": True,
}
_NOTE_EDGE, _NOTE_SIZE, _NOTE_LINE = 14.0, 10.5, 15.0
LOCK = threading.Lock()  # matplotlib's settings are global, and saving reads them
Point = tuple[float, float]


class Pen:
    """A figure of `width` × `height` units with its origin at the top left; or, where `axes` of another
    figure are given, the same within them, with letters and lines that shrink or grow with the rest."""

    def __init__(self, width: float, height: float, axes: Axes | None = None) -> None:
        inches = MM_PER_UNIT / 25.4
        self.points = POINTS_PER_UNIT
        if axes is None:
            self.figure = Figure(figsize=(width * inches, height * inches), facecolor=colours.PAPER)
            FigureCanvasAgg(self.figure)
            self.axes: Axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        else:
            self.axes, self.figure = axes, axes.get_figure(root=True)  # type: ignore[assignment]
            room, unit = axes.get_window_extent(), self.figure.dpi * inches  # in pixels
            self.points *= min(room.width / unit / width, room.height / unit / height)
            axes.set_aspect("equal")
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.set_axis_off()

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        *,
        colour: str = colours.INK,
        bold: bool = False,
        align: str = "left",
        order: float = 5,
    ) -> None:
        """One line, centred on `y`, of 5 points or more; `words` is never read as markup or mathematics."""
        drawn = self.axes.text(
            x,
            y,
            words,
            fontsize=max(size, LEAST_UNITS) * self.points,
            color=colour,
            ha=align,
            va="center_baseline",
            fontweight="bold" if bold else "normal",
            zorder=order,
            parse_math=False,
            family=fonts.families_for(words, bold=bold),
        )
        if hasattr(drawn, "set_fontfeatures"):  # a ligature is one sign in a PDF, and is copied as such
            drawn.set_fontfeatures(("-liga", "-clig"))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        line: str,
        radius: float = 6,
        thickness: float = 1.2,
        dashed: bool = False,
        order: float = 3,
    ) -> None:
        """A rounded box around (x, y)."""
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={min(radius, height / 2)}",
                facecolor=fill,
                edgecolor=line,
                linewidth=thickness * self.points,
                zorder=order,
                linestyle=(0, (3, 2)) if dashed else "solid",
                mutation_aspect=1,
            )
        )

    def polygon(
        self,
        corners: Sequence[Point],
        *,
        fill: str,
        line: str,
        thickness: float = 0.8,
        order: float = 3,
        alpha: float = 1.0,
    ) -> None:
        """A closed shape."""
        self.axes.add_patch(
            Polygon(
                list(corners),
                closed=True,
                facecolor=fill,
                edgecolor=line,
                alpha=alpha,
                linewidth=thickness * self.points,
                zorder=order,
                joinstyle="round",
            )
        )

    def line(
        self, start: Point, end: Point, *, colour: str, thickness: float, alpha: float = 1.0, order: float = 1
    ) -> None:
        """A straight line."""
        self.axes.add_line(
            Line2D(
                *zip(start, end, strict=True),
                color=colour,
                linewidth=thickness * self.points,
                alpha=alpha,
                zorder=order,
                solid_capstyle="butt",
                snap=False,
            )
        )

    def arrow(
        self,
        curve: Sequence[Point],
        inside: Callable[[Point], bool],
        *,
        colour: str,
        thickness: float,
        alpha: float,
        order: float = 1,
    ) -> None:
        """A cubic Bézier curve through its four control points up to where it gets `inside` its end, with a
        head there."""
        curve = _before(curve, inside)
        tip, length = curve[-1], 4.5 + 1.1 * thickness
        curve = _before(curve, inside_circle(*tip, length))
        neck = curve[-1]
        across = 0.5 * length / max(1e-6, math.dist(neck, tip))
        aside = (-(tip[1] - neck[1]) * across, (tip[0] - neck[0]) * across)
        self.axes.add_patch(
            PathPatch(
                Path(curve, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]),
                fill=False,
                edgecolor=colour,
                alpha=alpha,
                zorder=order,
                capstyle="butt",
                linewidth=thickness * self.points,
            )
        )
        corners = [
            tip,
            (neck[0] + aside[0], neck[1] + aside[1]),
            (neck[0] - aside[0], neck[1] - aside[1]),
        ]
        self.polygon(corners, fill=colour, line="none", alpha=min(1.0, alpha + 0.1), order=order)


def _before(curve: Sequence[Point], inside: Callable[[Point], bool]) -> Sequence[Point]:
    """The part of a Bézier curve before it gets inside a shape; all of one that does not."""
    try:
        first, _ = split_bezier_intersecting_with_closedpath(curve, inside, tolerance=0.01)
    except NonIntersectingPathException:
        return curve
    return [(float(x), float(y)) for x, y in first]


def star(x: float, y: float, radius: float) -> list[Point]:
    """The ten corners of a five-pointed star that stands on two of them."""
    corners = []
    for step in range(10):
        reach = radius if step % 2 == 0 else 0.45 * radius
        angle = math.pi * step / 5 - math.pi / 2
        corners.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return corners


def picture_bytes(figure: Figure, file_format: str, *, title: str = "", description: str = "") -> bytes:
    """The figure as PNG (300 dpi), SVG (text as text) or PDF (embedded TrueType); same figure, same bytes.

    Where no font of this machine has a character, PNG and PDF end in a line that says which, and what to
    install; it stands in their description too. An SVG holds its text, which the reader's fonts draw.

    Raises ScxError for another format.
    """
    if file_format not in PICTURE_FORMATS:
        raise ScxError(
            f"{file_format!r} is not a picture format.", f"Choose one of {', '.join(PICTURE_FORMATS)}."
        )
    buffer = io.BytesIO()
    with LOCK, matplotlib.rc_context(SETTINGS), fonts.all_letters(figure) as missing:
        note = "" if file_format == "svg" else fonts.missing_note(missing)
        description = f"{description} {note}".strip() if note else description
        about: dict[str, Any] = {
            "png": {"Title": title, "Description": description, "Software": None},
            "svg": {"Title": title, "Description": description, "Date": None},
            "pdf": {"Title": title, "Subject": description, "CreationDate": None},
        }[file_format]
        with _note_below(figure, note) as area:
            figure.savefig(buffer, format=file_format, dpi=DPI, metadata=about, bbox_inches=area)
    return buffer.getvalue()


@contextmanager
def _note_below(figure: Figure, note: str) -> Iterator[Bbox | None]:
    """Words under a figure while it is saved; gives the area to save (inches), None for the figure's own."""
    if not note:
        yield None
        return
    width, height = figure.get_size_inches()
    unit = MM_PER_UNIT / 25.4  # inches
    lines = wrapped(note, width / unit - 2 * _NOTE_EDGE, _NOTE_SIZE)
    below = unit * _NOTE_LINE * (len(lines) + 0.6)
    drawn = figure.text(
        _NOTE_EDGE * unit / width,  # in parts of the figure: what else is saved moves with them
        -0.1 * unit * _NOTE_LINE / height,
        "\n".join(lines),
        fontsize=_NOTE_SIZE * POINTS_PER_UNIT,
        family=fonts.OWN,
        color=colours.MUTED,
        va="top",
        linespacing=1.2,
        parse_math=False,
        in_layout=False,
    )
    try:
        yield Bbox.from_extents(0.0, -below, width, height)
    finally:
        drawn.remove()
