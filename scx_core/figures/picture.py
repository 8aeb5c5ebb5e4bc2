"""The drawing of a circuit as a figure for print: title, drawing, legend, caption, provenance line.

A wide view fills a double column (180 mm), a column view a single one (85 mm).
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scx_core.figures.drawing.drawing import Drawing, Placed
from scx_core.figures.drawing.pen import Pen, Point, picture_bytes, star
from scx_core.figures.drawing.text import fitted, wrapped

from .drawing import colours, legend

BADGE = 6.5
_EDGE, _HEAD, _SMALL, _LINE = 14.0, 52.0, 10.5, 15.0


def circuit_figure(drawing: Drawing, axes: Axes | None = None) -> Figure:
    """The figure at its final size, or drawn into `axes`; save it with `picture_bytes`."""
    room = drawing.width - 2 * _EDGE
    legend_rows = legend.in_rows(drawing, room)
    told = (drawing.caption, " ".join(drawing.explained), "; ".join(unsaid_notes(drawing)))
    lines = [line for words in told for line in wrapped(words, room, _SMALL)]
    provenance = wrapped(drawing.provenance, room, _SMALL)
    pen = Pen(
        drawing.width,
        _HEAD
        + drawing.height
        + legend.ROW_HEIGHT * len(legend_rows)
        + _LINE * (len(lines) + len(provenance))
        + 41.0,
        axes,
    )
    pen.text(_EDGE, 20.0, fitted(drawing.title, room, 17.0), 17.0, bold=True)
    pen.text(_EDGE, 41.0, fitted(drawing.subtitle, room, 12.0), 12.0, colour=colours.MUTED)
    draw_network(pen, drawing, _HEAD)
    y = _HEAD + drawing.height + 16.0
    for row in legend_rows:
        legend.draw_row(pen, row, _EDGE, y)
        y += legend.ROW_HEIGHT
    y += 6.0
    for line in lines:
        pen.text(_EDGE, y, line, _SMALL)
        y += _LINE
    for line in provenance:
        pen.text(_EDGE, y + 9.0, line, _SMALL, colour=colours.MUTED)
        y += _LINE
    return pen.figure


def unsaid_notes(drawing: Drawing) -> list[str]:
    """The notes that the five sentences do not say already."""
    said = " ".join(drawing.explained).lower()
    return [note for note in drawing.notes if note.lower().rstrip(".") not in said]


def circuit_picture(drawing: Drawing, file_format: str) -> bytes:
    """The figure as PNG, SVG or PDF. Raises ScxError for another format."""
    return picture_bytes(
        circuit_figure(drawing),
        file_format,
        title=f"{drawing.title}: {drawing.subtitle}",
        description=f"{drawing.caption} {' '.join(drawing.explained)} {drawing.provenance}",
    )


def draw_network(pen: Pen, drawing: Drawing, top: float, left: float = 0.0) -> None:
    """Row names, arrows from weak to strong, boxes over them; `top` and `left`: where the drawing begins."""
    boxes = {box.id: box._replace(x=box.x + left, y=box.y + top) for box in drawing.nodes}
    for row in drawing.rows:
        pen.text(left + _EDGE, row.y + top, row.label, 11.0, colour=colours.MUTED)
    for index, link in enumerate(drawing.links):
        source, target = boxes[link.source], boxes[link.target]
        middle = (source.y + target.y) / 2  # the curve leaves upwards and arrives from below
        pen.arrow(
            [(source.x, source.y), (source.x, middle), (target.x, middle), (target.x, target.y)],
            partial(_inside, target),
            colour=link.colour,
            thickness=link.width,
            alpha=link.opacity,
            order=1 + index / (len(drawing.links) + 1),
        )
    for box in boxes.values():
        _draw_box(pen, box)


def _inside(box: Placed, point: Point) -> bool:
    return abs(point[0] - box.x) <= box.width / 2 and abs(point[1] - box.y) <= box.height / 2


def _draw_box(pen: Pen, box: Placed) -> None:
    x, y = box.x, box.y
    if box.kind == "error":
        half = box.width / 2
        corners = [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]
        pen.polygon(corners, fill=box.fill, line=box.line)
        return
    radius = {"gene": box.height / 2, "bias": 1.0, "feature": 7.0}.get(box.kind, 9.0)
    pen.box(
        x,
        y,
        box.width,
        box.height,
        fill=box.fill,
        line=box.line,
        radius=radius,
        thickness=1.6 if box.kind == "gene" else 1.2,
        dashed=box.kind == "against",
    )
    if box.kind == "bias":
        return
    shift = BADGE if box.marker else 0.0
    bold = box.kind in ("gene", "target", "feature")
    rise = 0.36 * box.font if box.below else 0.0
    pen.text(x + shift, y - rise, box.label, box.font, colour=box.ink, bold=bold, align="center")
    if box.below:
        pen.text(x, y + 0.72 * box.font, box.below, 0.8 * box.font, colour=colours.MUTED, align="center")
    if box.marker:
        pen.polygon(
            star(x - box.width / 2 + BADGE + 4.5, y, BADGE),
            fill=colours.MARKER_FILL,
            line=colours.MARKER_LINE,
            order=6,
        )
