"""A report as PDF on A4 pages, drawn with matplotlib: text as text, tables with their header on each page.

A table is never cut within a row; one that fits a page is not cut at all. Units are those of a drawing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.image import imread

from scx_core.figures.drawing import colours, fonts
from scx_core.figures.drawing.drawing import MM_PER_UNIT
from scx_core.figures.drawing.pen import LOCK, SETTINGS, Pen
from scx_core.figures.drawing.text import fitted, text_width, wrapped
from scx_core.figures.report.parts import Document, Picture, Section, Table

WIDTH, HEIGHT = 210 / MM_PER_UNIT, 297 / MM_PER_UNIT
LEFT, TOP, BOTTOM = 15 / MM_PER_UNIT, 16 / MM_PER_UNIT, 18 / MM_PER_UNIT
ROOM = WIDTH - 2 * LEFT
BODY, SMALL, SMALLEST = 17.0, 14.0, 11.0
GAP, WIDEST_GAP, LEAST_COLUMN = 16.0, 44.0, 60.0
DPI = 200


def report_pdf(document: Document) -> bytes:
    """The document as PDF; the same document gives the same bytes."""
    flow = _Flow(document)
    flow.lines(document.title, 30.0, bold=True)
    flow.lines(document.subtitle, BODY, colour=colours.MUTED)
    for section in document.sections:
        _section(flow, section)
    flow.lines(document.provenance, SMALL, colour=colours.MUTED)
    missing = flow.missing.union(*(fonts.missing_letters(pen.figure) for pen in flow.pens))
    flow.lines(fonts.missing_note(missing), SMALL, colour=colours.MUTED)
    return flow.finish()


def _section(flow: _Flow, section: Section) -> None:
    size = 23.0 if section.level == 1 else 19.0
    first = section.parts[0] if section.parts else ""
    flow.need(min(3 * size + _room(first), HEIGHT - TOP - BOTTOM))  # a heading stays with what follows
    flow.skip(16.0 if section.level == 1 else 10.0)
    if section.level == 1:
        flow.rule(colours.INK, 1.6)
    flow.lines(section.title, size, bold=True)
    for part in section.parts:
        if isinstance(part, str):
            flow.lines(part, BODY)
            flow.skip(4.0)
        elif isinstance(part, Picture):
            _picture(flow, part)
        else:
            _table(flow, part)


def _room(part: str | Table | Picture) -> float:
    """How much of a page a part takes at least."""
    if isinstance(part, str):
        return 3 * BODY
    if isinstance(part, Picture):
        width, height = part.draw().get_size_inches()
        return float(ROOM * height / width) + 60.0
    size, widths = _fit(part)
    return _tall(part, widths, size)


def _tall(table: Table, widths: Sequence[float], size: float) -> float:
    """A whole table with its title; of one that is longer than a page, its beginning."""
    lines = [_wrap(row, widths, size) for row in (table.header, *table.shown)]
    head = 3 * BODY + 1.4 * SMALL * len(wrapped(table.note, ROOM, SMALL))
    whole = head + sum(_height(line, 1.3 * size) + 3.0 for line in lines)
    return whole if whole < HEIGHT - TOP - BOTTOM else head + 5 * BODY


def scale_of(figure: Figure, caption: str) -> float:
    """How much of the page's width a figure takes so that it stands on one page with its caption."""
    width, height = figure.get_size_inches()
    below = 1.4 * SMALL * len(wrapped(caption, ROOM, SMALL)) + 60.0
    return float(min(1.0, (HEIGHT - TOP - BOTTOM - below) / (ROOM * height / width)))


def _picture(flow: _Flow, picture: Picture) -> None:
    """The figure at the width of the page, on one page with its caption."""
    figure, buffer = picture.draw(), io.BytesIO()
    scale = scale_of(figure, picture.caption)
    with LOCK, matplotlib.rc_context(SETTINGS), fonts.all_letters(figure) as missing:
        flow.missing |= missing  # said once, at the end of the report
        figure.savefig(buffer, format="png", dpi=DPI)
    buffer.seek(0)
    pixels = imread(buffer)
    height = ROOM * pixels.shape[0] / pixels.shape[1]
    flow.need(scale * height + 60.0)
    flow.image(pixels, ROOM * scale, height * scale)
    flow.lines(picture.caption, SMALL, colour=colours.MUTED)
    flow.skip(8.0)


def _table(flow: _Flow, table: Table) -> None:
    size, widths = _fit(table)
    header = _wrap(table.header, widths, size)
    flow.need(_tall(table, widths, size))
    flow.skip(6.0)
    flow.lines(table.title, BODY, bold=True)
    flow.lines(table.note, SMALL, colour=colours.MUTED)
    flow.skip(4.0)
    _row(flow, header, widths, size, bold=True)
    flow.rule(colours.INK, 1.0)
    for shown in table.shown:
        row = _wrap(shown, widths, size)
        if flow.need(_height(row, 1.3 * size)):
            _row(flow, header, widths, size, bold=True)
            flow.rule(colours.INK, 1.0)
        _row(flow, row, widths, size)
        flow.rule(colours.FAINT, 0.6)
    flow.skip(10.0)


def _fit(table: Table) -> tuple[float, list[float]]:
    """Font size and column widths at which the table is as wide as the page: smaller letters first, then the
    widest columns wrap."""
    lines = [table.header, *table.shown]
    for size in (SMALL, 12.5, SMALLEST):
        widths = [
            max(text_width(line[i], size, bold=True) for line in lines) + GAP
            for i in range(len(table.header))
        ]
        if sum(widths) <= ROOM:
            spare = min(WIDEST_GAP - GAP, (ROOM - sum(widths)) / len(widths))
            return size, [width + spare for width in widths]
    words = [
        max(
            (text_width(word, SMALLEST, bold=True) for line in lines for word in line[i].split()), default=0.0
        )
        for i in range(len(table.header))
    ]
    least = [max(LEAST_COLUMN, min(word + GAP, 0.3 * ROOM)) for word in words]
    while sum(widths) > ROOM + 0.5:
        room = [w - low for w, low in zip(widths, least, strict=True)]
        widest = max(range(len(widths)), key=lambda i: (room[i] > 0, widths[i]))
        widths[widest] -= min(20.0, sum(widths) - ROOM)
    return SMALLEST, widths


def _wrap(row: Sequence[str], widths: Sequence[float], size: float) -> list[list[str]]:
    return [wrapped(text, width - GAP, size) or [""] for text, width in zip(row, widths, strict=True)]


def _height(row: Sequence[Sequence[str]], tall: float) -> float:
    return tall * max(map(len, row)) + 5.0


def _row(
    flow: _Flow, row: Sequence[Sequence[str]], widths: Sequence[float], size: float, bold: bool = False
) -> None:
    tall, x = 1.3 * size, LEFT
    for lines, width in zip(row, widths, strict=True):
        for i, line in enumerate(lines):
            flow.pen.text(x, flow.y + (i + 0.6) * tall, line, size, bold=bold)
        x += width
    flow.y += _height(row, tall)


class _Flow:
    """Pages that fill from top to bottom."""

    def __init__(self, document: Document) -> None:
        self.document, self.pens, self.y = document, [Pen(WIDTH, HEIGHT)], TOP
        self.missing: set[str] = set()  # characters of its pictures that no font has

    @property
    def pen(self) -> Pen:
        """The page that is written on."""
        return self.pens[-1]

    def need(self, height: float) -> bool:
        """A new page where so much does not fit; whether there is one."""
        if self.y + height <= HEIGHT - BOTTOM or self.y == TOP:
            return False
        self.pens.append(Pen(WIDTH, HEIGHT))
        self.y = TOP
        return True

    def skip(self, height: float) -> None:
        """Empty space, none at the top of a page."""
        if self.y > TOP:
            self.y += height

    def rule(self, colour: str, thickness: float) -> None:
        """A line across the page."""
        self.pen.line((LEFT, self.y), (LEFT + ROOM, self.y), colour=colour, thickness=thickness)
        self.y += 3.0

    def lines(self, words: str, size: float, *, bold: bool = False, colour: str = colours.INK) -> None:
        """A paragraph."""
        for line in wrapped(words, ROOM, size):
            self.need(1.4 * size)
            self.pen.text(LEFT, self.y + 0.7 * size, line, size, bold=bold, colour=colour)
            self.y += 1.4 * size

    def image(self, pixels: np.ndarray, width: float, height: float) -> None:
        """Pixels at the left margin."""
        left = LEFT + (ROOM - width) / 2
        box = (left / WIDTH, 1 - (self.y + height) / HEIGHT, width / WIDTH, height / HEIGHT)
        axes = self.pen.figure.add_axes(box)
        axes.imshow(pixels, aspect="auto", interpolation="none")
        axes.set_axis_off()
        self.y += height + 6.0

    def finish(self) -> bytes:
        """All pages with their numbers."""
        buffer = io.BytesIO()
        about = {"Title": self.document.title, "Creator": "scX", "CreationDate": None, "Producer": None}
        title, foot = fitted(self.document.title, 0.8 * ROOM, 12.0), HEIGHT - 0.5 * BOTTOM
        for number, pen in enumerate(self.pens, 1):
            pen.text(LEFT, foot, title, 12.0, colour=colours.MUTED)
            words = f"{number} of {len(self.pens)}"
            pen.text(LEFT + ROOM, foot, words, 12.0, colour=colours.MUTED, align="right")
        figures = [pen.figure for pen in self.pens]
        settings, letters = matplotlib.rc_context(SETTINGS), fonts.all_letters(*figures)
        with LOCK, settings, letters, PdfPages(buffer, metadata=about) as pages:
            for figure in figures:
                pages.savefig(figure)
        return buffer.getvalue()
