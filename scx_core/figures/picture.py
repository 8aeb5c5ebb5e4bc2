"""The drawing of a circuit as a figure for print: title, drawing, legend, caption, provenance line.

A wide view fills a double column (180 mm), a column view a single one (85 mm).
"""

from __future__ import annotations

from itertools import pairwise

from matplotlib.figure import Figure

from scx_core.figures.drawing.drawing import Drawing, Link, Placed
from scx_core.figures.drawing.pen import Pen, Point, picture_bytes, star
from scx_core.figures.drawing.text import fitted, one_row, wrapped

from .drawing import colours, legend

BADGE = 6.5
_EDGE, _HEAD, _SMALL, _LINE = 14.0, 52.0, 10.5, 15.0


def circuit_figure(drawing: Drawing) -> Figure:
    """The figure at its final size; save it with `picture_bytes`."""
    room = drawing.width - 2 * _EDGE
    legend_rows = legend.in_rows(drawing, room)
    lines = [*wrapped(drawing.caption, room, _SMALL), *wrapped("; ".join(drawing.notes), room, _SMALL)]
    pen = Pen(
        drawing.width,
        _HEAD + drawing.height + legend.ROW_HEIGHT * len(legend_rows) + _LINE * len(lines) + 56.0,
    )
    pen.text(_EDGE, 20.0, fitted(drawing.title, room, 17.0), 17.0, bold=True)
    pen.text(_EDGE, 41.0, fitted(drawing.subtitle, room, 12.0), 12.0, colour=colours.MUTED)
    _network(pen, drawing, _HEAD)
    y = _HEAD + drawing.height + 16.0
    for row in legend_rows:
        legend.draw_row(pen, row, _EDGE, y)
        y += legend.ROW_HEIGHT
    y += 6.0
    for line in lines:
        pen.text(_EDGE, y, line, _SMALL)
        y += _LINE
    row_words, size = one_row(drawing.provenance, room)
    pen.text(_EDGE, y + 9.0, row_words, size, colour=colours.MUTED)
    return pen.figure


def circuit_picture(drawing: Drawing, file_format: str) -> bytes:
    """The figure as PNG, SVG or PDF. Raises ScxError for another format."""
    return picture_bytes(
        circuit_figure(drawing),
        file_format,
        title=f"{drawing.title}: {drawing.subtitle}",
        description=f"{drawing.caption} {drawing.provenance}",
    )


def _network(pen: Pen, drawing: Drawing, top: float) -> None:
    """Row names, arrows from weak to strong, boxes over them."""
    boxes = {box.id: box._replace(y=box.y + top) for box in drawing.nodes}
    for row in drawing.rows:
        pen.text(_EDGE, row.y + top, row.label, 11.0, colour=colours.MUTED)
    for index, link in enumerate(drawing.links):
        _arrow(pen, link, boxes[link.source], boxes[link.target], 1 + index / (len(drawing.links) + 1))
    for box in boxes.values():
        _draw_box(pen, box)


def _draw_box(pen: Pen, box: Placed) -> None:
    x, y = box.x, box.y
    if box.kind == "error":
        half = box.width / 2
        pen.polygon(
            [(x, y - half), (x + half, y), (x, y + half), (x - half, y)], fill=box.fill, line=box.line
        )
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
        pen.text(x, y + 0.72 * box.font, box.below, below_size(box), colour=colours.MUTED, align="center")
    if box.marker:
        pen.polygon(
            star(x - box.width / 2 + BADGE + 4.5, y, BADGE),
            fill=colours.MARKER_FILL,
            line=colours.MARKER_LINE,
            order=6,
        )


def below_size(box: Placed) -> float:
    """Font size of the small line of a box."""
    return 0.8 * box.font


def _arrow(pen: Pen, link: Link, source: Placed, target: Placed, order: float) -> None:
    """The curve leaves upwards and arrives from below, and ends in a head at the box's border."""
    bend = 0.5 * (source.y - target.y)
    curve = [
        (source.x, source.y),
        (source.x, source.y - bend),
        (target.x, target.y + bend),
        (target.x, target.y),
    ]
    length = 4.5 + 1.1 * link.width
    end = _border(curve, target)
    tip = _at(curve, end)
    while end > 0.05 and _distance(_at(curve, end), tip) < length:
        end -= 0.004
    neck = _at(curve, end)
    pen.curve(
        _first_part(curve, end), colour=link.colour, thickness=link.width, alpha=link.opacity, order=order
    )
    across = 0.5 * length / max(1e-6, _distance(neck, tip))
    side = (-(tip[1] - neck[1]) * across, (tip[0] - neck[0]) * across)
    pen.polygon(
        [tip, (neck[0] + side[0], neck[1] + side[1]), (neck[0] - side[0], neck[1] - side[1])],
        fill=link.colour,
        line="none",
        alpha=min(1.0, link.opacity + 0.1),
        order=order,
    )


def _border(curve: list[Point], box: Placed) -> float:
    """Where along the curve (0 to 1) it enters the box at its end, by bisection."""
    outside, inside = 0.0, 1.0
    for _ in range(24):
        middle = (outside + inside) / 2
        x, y = _at(curve, middle)
        if abs(x - box.x) <= box.width / 2 and abs(y - box.y) <= box.height / 2:
            inside = middle
        else:
            outside = middle
    return inside


def _first_part(curve: list[Point], end: float) -> list[Point]:
    """The control points of the curve from 0 to `end` (de Casteljau)."""
    first = [curve[0]]
    row = list(curve)
    while len(row) > 1:
        row = [_between(a, b, end) for a, b in pairwise(row)]
        first.append(row[0])
    return first


def _at(curve: list[Point], place: float) -> Point:
    return _first_part(curve, place)[-1]


def _between(a: Point, b: Point, part: float) -> Point:
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def _distance(a: Point, b: Point) -> float:
    return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
