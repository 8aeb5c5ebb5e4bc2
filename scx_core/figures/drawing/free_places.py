"""Names beside points without overlaps: the first free place around each point, the best points first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .text import text_width

_GAP, _MARK = 8.0, 6.0
Box = tuple[float, float, float, float]


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


def placed(points: Sequence[Label], room: Box) -> list[Label]:
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
