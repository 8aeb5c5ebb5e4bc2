"""Geometry without overlaps: boxes of the layered drawing in rows that wrap, names beside points. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from .text import text_width

_GAP, _MARK = 8.0, 6.0
Box = tuple[float, float, float, float]
Weights = Mapping[str, Mapping[str, float]]  # node → neighbour → strength of their link


def order_layers(
    layers: Sequence[Sequence[str]], fixed: Mapping[str, float], neighbours: Weights, sweeps: int = 6
) -> list[list[str]]:
    """Order each layer to reduce crossings, by barycentre sweeps from bottom to top and back.

    `fixed` holds the places (0 to 1) of the nodes that may not move. Ties fall to the node's id, so
    that the same circuit is always drawn the same way.
    """
    place = dict(fixed)
    rows = [sorted(layer) for layer in layers]
    for row in rows:
        place |= _evenly(row)
    for sweep in range(sweeps):
        for index in range(len(rows)) if sweep % 2 == 0 else reversed(range(len(rows))):
            row = rows[index]
            centre = {node: _barycentre(node, place, neighbours) for node in row}
            row.sort(key=lambda node: (round(centre[node], 9), node))
            place |= _evenly(row)
    return rows


def _evenly(row: Sequence[str]) -> dict[str, float]:
    return {node: (index + 0.5) / len(row) for index, node in enumerate(row)}


def _barycentre(node: str, place: Mapping[str, float], neighbours: Weights) -> float:
    near = [(other, weight) for other, weight in neighbours.get(node, {}).items() if other in place]
    total = sum(weight for _, weight in near)
    if total <= 0:
        return place[node]
    return sum(place[other] * weight for other, weight in near) / total


def wrap(widths: Sequence[float], room: float, gap: float) -> list[list[int]]:
    """Deal the items out in turn over as few rows as fit in `room`; each row keeps the order of the items."""
    for n_rows in range(1, len(widths) + 1):
        rows = [list(range(start, len(widths), n_rows)) for start in range(n_rows)]
        if all(sum(widths[i] for i in row) + gap * (len(row) - 1) <= room for row in rows):
            return rows
    return [[index] for index in range(len(widths))]


def spread(
    wanted: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float
) -> list[float]:
    """Centres as near as possible to `wanted`, in order, without overlap, inside [low, high].

    The least squares answer: with the space that the items before it need taken off, it is an isotonic
    regression (pool adjacent violators), and clipping that to the free room stays optimal.
    """
    if not wanted:
        return []
    before = [0.0]
    for left, right in pairwise(widths):
        before.append(before[-1] + (left + right) / 2 + gap)
    blocks: list[list[float]] = []  # [mean, count]
    for value, offset in zip(wanted, before, strict=True):
        blocks.append([value - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + mean * count) / (blocks[-1][1] + count),
                blocks[-1][1] + count,
            ]
    first = low + widths[0] / 2
    last = max(first, high - widths[-1] / 2 - before[-1])
    centres = [min(last, max(first, mean)) for mean, count in blocks for _ in range(int(count))]
    return [centre + offset for centre, offset in zip(centres, before, strict=True)]


class Label(NamedTuple):
    """Words at (x, y), left-aligned and centred on y; before they are placed, (x, y) is their point."""

    x: float
    y: float
    words: str
    size: float

    @property
    def box(self) -> Box:
        """What the words cover: left, top, right, bottom."""
        half = 0.65 * self.size
        return self.x, self.y - half, self.x + text_width(self.words, self.size), self.y + half


def labels_placed(points: Sequence[Label], room: Box) -> list[Label]:
    """The labels that found a place in `room` (left, top, right, bottom), in the order of their points.

    No label covers another one or a point. Units are those of the pen.
    """
    taken = [(p.x - _MARK, p.y - _MARK, p.x + _MARK, p.y + _MARK) for p in points]
    out = []
    for point in points:
        for x, y in _candidates(point):
            label = point._replace(x=x, y=y)
            if _inside(label.box, room) and not any(_overlap(label.box, other) for other in taken):
                taken.append(label.box)
                out.append(label)
                break
    return out


def _candidates(point: Label) -> list[tuple[float, float]]:
    """Right, left, above, below, then the corners, near and further away."""
    width, step = text_width(point.words, point.size), point.size * 1.5
    sides = [(point.x + _GAP, point.y), (point.x - _GAP - width, point.y)]
    for distance in (1, 2):
        for y in (point.y - distance * step, point.y + distance * step):
            sides += [(point.x - width / 2, y), (point.x + _GAP, y), (point.x - _GAP - width, y)]
    return sides


def _inside(box: Box, room: Box) -> bool:
    return box[0] >= room[0] and box[1] >= room[1] and box[2] <= room[2] and box[3] <= room[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
