"""From a circuit to a drawing: what is shown gets its box, its place, its colour and its words, once.

Rows from top to bottom: the answer (and what it stands against), features from the last layer to the
first, the genes of the sentence in their order. Rows that are too full wrap; boxes never overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.figures import captions
from scx_core.figures.explain import explain

from . import colours
from .boxes import TARGET_HEIGHT, Boxes
from .drawing import WIDTHS, Drawing, Link, Placed, Row, View, WidthKey
from .placing import order_layers, spread, wrap
from .select import Group, Selection, select
from .text import percent

GAP, MARGIN = 10.0, 14.0
PITCHES = {"wide": (31.0, 46.0), "column": (31.0, 46.0), "screen": (34.0, 59.0)}  # of genes, of features
LEAST_WIDTH, MOST_WIDTH = 0.6, 6.5


class _Band(NamedTuple):
    """Boxes of one layer, dealt over one or more rows of `pitch`."""

    label: str
    rows: list[list[Placed]]
    pitch: float


def simplify(
    circuit: Circuit,
    view: View | None = None,
    *,
    markers: frozenset[str] = frozenset(),
    labels: Mapping[str, str] | None = None,
) -> Drawing:
    """The drawing of `circuit` that every renderer draws.

    `markers` are the known marker genes of the cell type; `labels` names features by "layer·feature"
    ("L2·513") or by node id. Raises ScxError when an edge names a node that is not there.
    """
    view = view or View()
    selection = select(circuit, view)
    maker = Boxes(circuit, selection, view, markers, labels or {})
    margin = {"wide": 66.0, "column": 42.0, "screen": 74.0}[view.size]
    bands = _bands(maker, selection, circuit, view, margin)
    placed, rows, height = _stack(bands, maker.top_row(), WIDTHS[view.size], view)
    names = {box.id: _called(box, selection) for box in placed}
    links, key = _links(selection, names, circuit)
    return Drawing(
        width=WIDTHS[view.size],
        height=height,
        nodes=tuple(placed),
        links=links,
        rows=rows,
        title=captions.title(circuit),
        subtitle=captions.subtitle(circuit),
        scores=captions.scores(circuit),
        notes=captions.notes(circuit, selection, view.show_errors, view.show_bias),
        caption=captions.caption(circuit),
        provenance=captions.provenance_line(circuit.provenance),
        width_key=key,
        effect_limit=maker.limit,
        unit=circuit.target.unit,
        colour_by=view.colour_by,
        explained=explain(circuit),
        signs=captions.signs(circuit),
    )


def _called(box: Placed, selection: Selection) -> str:
    """What hover texts call a box; features of one name are told apart by their numbers."""
    if box.kind != "feature":
        return box.label
    number = captions.feature_name(selection.groups[box.id].members[0])
    return box.label if box.label == number else f"{box.label} {number}"


def _bands(maker: Boxes, selection: Selection, circuit: Circuit, view: View, margin: float) -> list[_Band]:
    """Bands from top (last layer) to bottom (genes), boxes with their x."""
    room = WIDTHS[view.size] - margin - MARGIN
    groups = selection.groups.values()
    genes = sorted(
        (g for g in groups if g.kind == "gene"), key=lambda g: _sentence_order(g, maker.effects, circuit)
    )
    sentence = [maker.of(g) for g in genes]
    by_layer: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        if group.kind in ("feature", "error"):
            by_layer[group.layer or 0].append(group)
    near: dict[str, dict[str, float]] = defaultdict(dict)
    for flow in selection.flows:
        near[flow.source][flow.target] = near[flow.target][flow.source] = flow.strength + 1e-9
    fixed = {"bos": 0.0, "prompt": 0.0, "bias": 1.0}
    fixed |= {box.id: (i + 0.5) / len(genes) for i, box in enumerate(sentence)}
    layers = sorted(by_layer)
    ordered = order_layers([[g.id for g in by_layer[layer]] for layer in layers], fixed, near)
    foot = _foot(maker, [maker.of(g) for g in groups if g.kind in ("bos", "prompt", "bias")], margin, room)
    gene_pitch, feature_pitch = PITCHES[view.size]
    narrow = view.size == "column"
    bands = [_Band("" if narrow else "Genes", _across(sentence, margin, room) + foot, gene_pitch)]
    name = "L{}" if narrow else "Layer {}"
    placed = {box.id: box.x for row in bands[0].rows for box in row}
    for layer, ids in zip(layers, ordered, strict=True):
        boxes = [maker.of(selection.groups[key]) for key in ids]
        rows = _across(boxes, margin, room, [_pull(near[key], placed) for key in ids])
        placed |= {box.id: box.x for row in rows for box in row}
        bands.append(_Band(name.format(layer), rows, feature_pitch))
    return bands[::-1]


def _pull(near: Mapping[str, float], placed: Mapping[str, float]) -> float | None:
    """Mean x of the neighbours that have a place already, by the strength of their links."""
    found = [(placed[other], weight) for other, weight in near.items() if other in placed]
    total = sum(weight for _, weight in found)
    return sum(x * weight for x, weight in found) / total if total else None


def _foot(maker: Boxes, extras: list[Placed], margin: float, room: float) -> list[list[Placed]]:
    """The row under the genes: start of text and prompt on the left, stub and biases on the right."""
    left = [box for kind in ("bos", "prompt") for box in extras if box.kind == kind]
    stub = maker.more()
    right = ([stub] if stub else []) + [box for box in extras if box.kind == "bias"]
    row = left + right
    wanted = [margin] * len(left) + [margin + room] * len(right)
    centres = spread(wanted, [box.width for box in row], margin, margin + room, GAP)
    return [[box._replace(x=x) for box, x in zip(row, centres, strict=True)]] if row else []


def _sentence_order(group: Group, effects: Mapping[str, GeneEffect], circuit: Circuit) -> tuple[float, str]:
    effect = effects.get(group.gene or "")
    if effect:
        return effect.rank, group.id
    positions = [node.position for node in group.members if node.position is not None]
    return (float(min(positions)) if positions else float(len(circuit.genes) + 1)), group.id


def _across(
    boxes: Sequence[Placed], margin: float, room: float, pulls: Sequence[float | None] = ()
) -> list[list[Placed]]:
    """Deal boxes over rows; x is the place in the order and, as far as there is room, the pull."""
    rows = []
    even = [margin + room * (index + 0.5) / len(boxes) for index in range(len(boxes))]
    freedom = 0.7 / max(1, len(boxes) - 1) ** 0.5
    places = [
        x if pull is None else x + freedom * (pull - x)
        for x, pull in zip(even, pulls or [None] * len(boxes), strict=True)
    ]
    for indices in wrap([box.width for box in boxes], room, GAP):
        wanted = [places[index] for index in indices]
        row = [boxes[index] for index in indices]
        centres = spread(wanted, [box.width for box in row], margin, margin + room, GAP)
        rows.append([box._replace(x=x) for box, x in zip(row, centres, strict=True)])
    return rows


def _stack(
    bands: list[_Band], top: list[Placed], width: float, view: View
) -> tuple[list[Placed], tuple[Row, ...], float]:
    """Give the bands their heights; the space between them fills a pleasant page where there is room."""
    fixed = 2 * MARGIN + TARGET_HEIGHT + sum(len(band.rows) * band.pitch for band in bands)
    wanted = {"wide": 560.0, "column": 430.0, "screen": 600.0}[view.size]
    gap = min(92.0, max(34.0 if len(bands) < 10 else 22.0, (wanted - fixed) / (len(bands) + 0.4)))
    placed = _top(top, width)
    rows = []
    y = MARGIN + TARGET_HEIGHT + 0.4 * gap  # the arrows that meet at the answer need some room
    for band in bands:
        y += gap
        rows.append(Row(band.label, y + len(band.rows) * band.pitch / 2))
        for boxes in band.rows:
            placed += [box._replace(y=y + band.pitch / 2) for box in boxes]
            y += band.pitch
    return placed, tuple(rows), y + MARGIN


def _top(boxes: list[Placed], width: float) -> list[Placed]:
    """Answers in the middle of the top row, the competitor to their right."""
    y = MARGIN + TARGET_HEIGHT / 2
    answers = [box for box in boxes if box.kind == "target"]
    wanted = [width * (i + 1) / (len(answers) + 1) for i in range(len(answers))]
    rivals = [box for box in boxes if box.kind == "against"]
    room = width - MARGIN - sum(box.width + 2 * GAP for box in rivals)
    centres = spread(wanted, [box.width for box in answers], MARGIN, max(room, MARGIN), GAP)
    row = [box._replace(x=x, y=y) for box, x in zip(answers, centres, strict=True)]
    edge = max((box.x + box.width / 2 for box in row), default=width / 2)
    return row + [box._replace(x=edge + 2 * GAP + box.width / 2, y=y) for box in rivals]


def _links(
    selection: Selection, names: Mapping[str, str], circuit: Circuit
) -> tuple[tuple[Link, ...], tuple[WidthKey, ...]]:
    """Arrows, weakest first so that the strong ones lie on top, and the samples of the width legend."""
    most = max((flow.strength for flow in selection.flows), default=0.0)
    links = []
    for flow in reversed(selection.flows):
        part = (flow.strength / most) ** 0.5 if most > 0 else 0.3
        links.append(
            Link(
                flow.source,
                flow.target,
                flow.weight,
                flow.strength,
                LEAST_WIDTH + (MOST_WIDTH - LEAST_WIDTH) * part,
                colours.sign_colour(captions.called(circuit, flow.weight, flow.q)),
                0.22 + 0.58 * part,
                captions.link_hover(flow, names, circuit),
            )
        )
    samples = [share for share in (0.01, 0.05, 0.2, 0.5) if 0 < share <= most][-3:] or (
        [most] if most else []
    )
    key = tuple(
        WidthKey(LEAST_WIDTH + (MOST_WIDTH - LEAST_WIDTH) * (share / most) ** 0.5, percent(share))
        for share in samples
    )
    return tuple(links), key
