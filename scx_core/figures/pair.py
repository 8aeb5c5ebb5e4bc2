"""Two circuits side by side: what both hold stands in one place, and both are drawn on one scale.

The places are those of the circuit that is left when of every node, edge and gene the stronger side is
taken; a box that only one side holds is drawn faint on the other. `least` leaves out genes and features
whose effects differ by less than that share of the largest difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scx_core.circuits import Circuit
from scx_core.circuits.circuit import Edge, GeneEffect, Node
from scx_core.circuits.difference import Difference
from scx_core.figures import captions
from scx_core.figures.drawing import colours, legend
from scx_core.figures.drawing.drawing import Drawing, Link, Placed, View
from scx_core.figures.drawing.layout import LEAST_WIDTH, MOST_WIDTH, simplify
from scx_core.figures.drawing.pen import Pen, picture_bytes
from scx_core.figures.drawing.select import merge_nodes
from scx_core.figures.drawing.text import one_row, percent, plain, several, signed, wrapped
from scx_core.figures.picture import draw_network

_ALL = 100_000  # boxes and arrows: of a side everything is drawn first, then what has a place is kept
_GAP, _EDGE, _HEAD, _SMALL, _LINE = 56.0, 14.0, 66.0, 10.5, 15.0


class Pair(NamedTuple):
    """Both drawings, of one size; the names of the sides; how many boxes `least` left out."""

    names: tuple[str, str]
    first: Drawing
    second: Drawing
    left_out: int


def paired(
    found: Difference, view: View | None = None, *, least: float = 0.0, markers: frozenset[str] = frozenset()
) -> Pair:
    """The two sides of a difference of types. `least`: 0 to 1, of the largest difference of two effects."""
    view = view or View(size="column")
    sides = found.first, found.second
    union = _stronger(*sides)
    kept, left_out = _differing(union, sides, least)
    places = simplify(kept, view, markers=markers)
    whole = View(
        size=view.size, max_genes=_ALL, max_features=_ALL, max_edges=_ALL, min_edge_share=0.0,
        colour_by=view.colour_by, show_errors=view.show_errors, show_bias=view.show_bias,
    )  # fmt: skip
    drawn = [simplify(side, whole, markers=markers) for side in sides]
    most = max((link.strength for one in drawn for link in one.links), default=0.0)
    limit = max(one.effect_limit for one in drawn)
    first, second = (
        _on_places(one, places, side, limit, most, name)
        for one, side, name in zip(drawn, sides, found.names, strict=True)
    )
    return Pair(found.names, first, second, left_out)


def _stronger(first: Circuit, second: Circuit) -> Circuit:
    """Of every node, edge and gene the side that has more of it."""
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    genes: dict[str, GeneEffect] = {}
    for side in (first, second):
        for node in side.nodes:
            if node.id not in nodes or node.influence > nodes[node.id].influence:
                nodes[node.id] = node
        for edge in side.edges:
            pair = edge.source, edge.target
            if pair not in edges or abs(edge.weight) > abs(edges[pair].weight):
                edges[pair] = edge
        for gene in side.genes:
            if gene.gene not in genes or abs(gene.effect) > abs(genes[gene.gene].effect):
                genes[gene.gene] = gene
    return first._replace(
        nodes=tuple(nodes.values()), edges=tuple(edges.values()), genes=tuple(genes.values())
    )


def _differing(union: Circuit, sides: tuple[Circuit, Circuit], least: float) -> tuple[Circuit, int]:
    """The union without genes and features that differ by less than `least` of the largest difference."""
    gene = [{row.gene: row.effect for row in side.genes} for side in sides]
    node = [{one.id: one.effect for one in side.nodes if one.kind == "feature"} for side in sides]
    gap_gene = {name: abs(gene[0].get(name, 0.0) - gene[1].get(name, 0.0)) for name in {*gene[0], *gene[1]}}
    gap_node = {name: abs(node[0].get(name, 0.0) - node[1].get(name, 0.0)) for name in {*node[0], *node[1]}}
    most = max((*gap_gene.values(), *gap_node.values()), default=0.0)
    if least <= 0 or most <= 0:
        return union, 0

    def stays(one: Node) -> bool:
        if one.kind == "embedding" and one.gene is not None:
            return gap_gene.get(one.gene, 0.0) >= least * most
        return one.kind != "feature" or gap_node[one.id] >= least * most

    nodes = tuple(one for one in union.nodes if stays(one))
    held = {one.id for one in nodes}
    edges = tuple(edge for edge in union.edges if edge.source in held and edge.target in held)
    return union._replace(nodes=nodes, edges=edges), len(union.nodes) - len(nodes)


def _on_places(
    side: Drawing, places: Drawing, circuit: Circuit, limit: float, most: float, name: str
) -> Drawing:
    """A side's own boxes and arrows at the places of the pair, coloured and widened on the pair's scale."""
    own = {box.id: box for box in side.nodes}
    groups, _ = merge_nodes(circuit.nodes)
    effects = {row.gene: row for row in circuit.genes}
    boxes = []
    for place in places.nodes:
        box = own.get(place.id)
        if box is None or place.kind == "more":
            boxes.append(place if place.kind == "more" else _faint(place, name))
            continue
        if box.kind == "gene" and side.colour_by == "effect":
            row = effects.get(groups[box.id].gene or "")
            effect = captions.called(circuit, row.effect if row else 0.0, row.q if row else None)
            fill = colours.shown_colour(effect, limit)
            box = box._replace(fill=fill, ink=colours.ink_on(fill))
        boxes.append(
            box._replace(x=place.x, y=place.y, width=place.width, font=place.font, height=place.height)
        )
    held = {box.id for box in boxes if box.id in own}
    wanted = {(link.source, link.target) for link in places.links}
    links = [
        _on_scale(link, most)
        for link in side.links
        if (link.source, link.target) in wanted and {link.source, link.target} <= held
    ]
    return places._replace(
        nodes=tuple(boxes),
        links=tuple(links),
        title=f"{plain(name, 40)} cells",
        subtitle=_subtitle(circuit),
        scores=side.scores,
        notes=(),
        effect_limit=limit,
        width_key=(),
        caption=side.caption,
    )


def _subtitle(circuit: Circuit) -> str:
    return f"{several(circuit.n_cells, 'cell')}, score {signed(circuit.target.value)} {circuit.target.unit}"


def _faint(place: Placed, name: str) -> Placed:
    """A box that this side does not hold."""
    return place._replace(
        fill=colours.PAPER, line=colours.FAINT, ink=colours.MUTED, marker=place.marker,
        hover=(place.hover[0], f"not in the circuit of {plain(name, 40)}"),
    )  # fmt: skip


def _on_scale(link: Link, most: float) -> Link:
    part = (link.strength / most) ** 0.5 if most > 0 else 0.3
    return link._replace(width=LEAST_WIDTH + (MOST_WIDTH - LEAST_WIDTH) * part, opacity=0.22 + 0.58 * part)


def pair_caption(found: Difference, pair: Pair, least: float) -> str:
    """What both panels show, and on which scale."""
    first, second = (plain(name, 40) for name in pair.names)
    target = plain(found.difference.target.label.split(": ", 1)[-1], 120)
    parts = [
        f"Circuits of {first} cells (A, n = {found.first.n_cells:,}) and of {second} cells (B, "
        f"n = {found.second.n_cells:,}), both asked the same: {target}.",
        "What both hold stands in one place; colours and widths are on one scale; white boxes with a pale "
        "edge are not in that side's circuit.",
    ]
    if pair.left_out:
        parts.append(
            f"{pair.left_out:,} genes and features are left out whose effects differ by less than "
            f"{percent(least)} of the largest difference."
        )
    parts.append(
        "Frozen attribution is what a gene adds in the frozen model, not what the model loses without it."
    )
    return " ".join(parts)


def pair_figure(
    found: Difference,
    *,
    least: float = 0.0,
    markers: frozenset[str] = frozenset(),
    axes: Axes | None = None,
) -> Figure:
    """The two panels of a double column, A and B, with one legend and one caption, or drawn into `axes`."""
    pair = paired(found, View(size="column"), least=least, markers=markers)
    width = pair.first.width + _GAP + pair.second.width
    room = width - 2 * _EDGE
    rows = legend.in_rows(pair.first, room)
    lines = wrapped(pair_caption(found, pair, least), room, _SMALL)
    height = _HEAD + pair.first.height + legend.ROW_HEIGHT * len(rows) + _LINE * len(lines) + 56.0
    pen = Pen(width, height, axes)
    for letter, drawing, left in (("A", pair.first, 0.0), ("B", pair.second, pair.first.width + _GAP)):
        pen.text(left + _EDGE, 20.0, f"{letter}  {drawing.title}", 16.0, bold=True)
        pen.text(left + _EDGE, 42.0, drawing.subtitle, 11.5, colour=colours.MUTED)
        draw_network(pen, drawing, _HEAD, left)
    y = _HEAD + pair.first.height + 16.0
    for row in rows:
        legend.draw_row(pen, row, _EDGE, y)
        y += legend.ROW_HEIGHT
    y += 6.0
    for line in lines:
        pen.text(_EDGE, y, line, _SMALL)
        y += _LINE
    words, size = one_row(captions.provenance_line(found.difference.provenance), room)
    pen.text(_EDGE, y + 9.0, words, size, colour=colours.MUTED)
    return pen.figure


def pair_picture(
    found: Difference, file_format: str, *, least: float = 0.0, markers: Iterable[str] = ()
) -> bytes:
    """The figure as PNG, SVG or PDF. Raises ScxError for another format."""
    figure = pair_figure(found, least=least, markers=frozenset(markers))
    names = " and ".join(plain(name, 40) for name in found.names)
    about = captions.provenance_line(found.difference.provenance)
    return picture_bytes(figure, file_format, title=f"Circuits of {names}", description=about)
