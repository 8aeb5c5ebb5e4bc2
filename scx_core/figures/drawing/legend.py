"""The legend of a circuit: what shapes, colours and line widths mean, and how print shows them."""

from __future__ import annotations

from typing import NamedTuple

from scx_core.statistics.hypothesis_tests import Q

from . import colours
from .drawing import Drawing
from .pen import Pen, star
from .text import number, text_width

ROW_HEIGHT, TEXT_SIZE = 23.0, 10.5
_GAP, _SWATCH_GAP = 20.0, 7.0


class Entry(NamedTuple):
    """One sample and its words. `detail` is the number that a scale or a line needs."""

    kind: str
    words: str
    swatch: float
    detail: float = 0.0

    @property
    def width(self) -> float:
        """Room that the entry takes, in units."""
        return self.swatch + _SWATCH_GAP + text_width(self.words, TEXT_SIZE)


def entries(drawing: Drawing) -> tuple[list[Entry], list[Entry]]:
    """The shapes and colours of boxes, then the lines; only what the drawing holds."""
    kinds = {box.kind for box in drawing.nodes}
    rows = [Entry("gene", "gene", 30.0)] if "gene" in kinds else []
    if any(box.marker for box in drawing.nodes):
        rows.append(Entry("marker", "known marker", 13.0))
    if "feature" in kinds:
        rows.append(Entry("feature", "feature, called after what it is active at (size: influence)", 30.0))
    if drawing.signs[2] and any(box.fill == colours.UNTOLD for box in drawing.nodes):
        rows.append(Entry("untold", f"gene or feature {drawing.signs[2]} (q ≥ {Q:g})", 30.0))
    rows += [
        Entry(kind, words, 15.0)
        for kind, words in (("error", "reconstruction error"), ("bias", "biases"))
        if kind in kinds
    ]
    if "gene" in kinds:
        rows.append(_scale(drawing))
    lines = [
        Entry(kind, words, 24.0)
        for kind, words in zip(("warm", "cool", "grey"), drawing.signs, strict=True)
        if words and (kind != "grey" or any(link.colour == colours.BIAS_GREY for link in drawing.links))
    ]
    widths = [Entry("width", sample.label, 24.0, sample.width) for sample in drawing.width_key]
    if widths:
        widths[-1] = widths[-1]._replace(words=widths[-1].words + " of the target's input")
    return rows, lines + widths


def _scale(drawing: Drawing) -> Entry:
    if drawing.colour_by == "share":
        return Entry("share scale", "share of cells, 0 to 100%", 70.0)
    limit = number(drawing.effect_limit, 2)
    return Entry("effect scale", f"frozen attribution, ±{limit} {drawing.unit}", 70.0)


def in_rows(drawing: Drawing, room: float) -> list[list[Entry]]:
    """The entries in as many rows as `room` units of width ask for."""
    rows: list[list[Entry]] = []
    for part in entries(drawing):
        used = room
        for entry in part:
            if used + entry.width > room:
                rows.append([])
                used = 0.0
            rows[-1].append(entry)
            used += entry.width + _GAP
    return rows


def draw_row(pen: Pen, row: list[Entry], x: float, y: float) -> None:
    """One row of the legend with its left end at `x`, centred on `y`."""
    for entry in row:
        _swatch(pen, entry, x, y)
        pen.text(x + entry.swatch + _SWATCH_GAP, y, entry.words, TEXT_SIZE, colour=colours.MUTED)
        x += entry.width + _GAP


def _swatch(pen: Pen, entry: Entry, x: float, y: float) -> None:
    middle, width = x + entry.swatch / 2, entry.swatch
    if entry.kind == "gene":
        pen.box(middle, y, width, 14.0, fill=colours.effect_colour(1.0, 2.0), line=colours.WARM, radius=7.0)
    elif entry.kind == "feature":
        pen.box(middle, y, width, 14.0, fill=colours.PAPER, line=colours.effect_colour(1.0, 2.4), radius=4.0)
    elif entry.kind == "untold":
        pen.box(middle, y, width, 14.0, fill=colours.UNTOLD, line=colours.BIAS_GREY, radius=7.0)
    elif entry.kind == "marker":
        pen.polygon(star(middle, y, 6.5), fill=colours.MARKER_FILL, line=colours.MARKER_LINE)
    elif entry.kind == "error":
        corners = [(middle, y - 7), (middle + 7, y), (middle, y + 7), (middle - 7, y)]
        pen.polygon(corners, fill=colours.ERROR_GREY, line=colours.PAPER)
    elif entry.kind == "bias":
        pen.box(middle, y, 11.0, 11.0, fill=colours.BIAS_GREY, line=colours.PAPER, radius=1.0)
    elif entry.kind.endswith("scale"):
        _scale_bar(pen, entry, x, y)
    else:
        colour = colours.LINES.get(entry.kind, colours.MUTED)
        pen.line((x, y), (x + entry.swatch, y), colour=colour, thickness=entry.detail or 2.6, alpha=0.85)


def _scale_bar(pen: Pen, entry: Entry, x: float, y: float, steps: int = 35) -> None:
    step = entry.swatch / steps
    for index in range(steps):
        part = (index + 0.5) / steps
        fill = (
            colours.share_colour(part)
            if entry.kind == "share scale"
            else colours.effect_colour(2 * part - 1, 1.0)
        )
        left, right = x + index * step, x + entry.swatch  # each over the last, so that no seam shows
        corners = [(left, y - 5), (right, y - 5), (right, y + 5), (left, y + 5)]
        pen.polygon(corners, fill=fill, line="none", order=3 + index / 1000)
