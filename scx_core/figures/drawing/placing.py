"""Geometry of the layered drawing: order in a row, rows that wrap, boxes that do not overlap. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

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
