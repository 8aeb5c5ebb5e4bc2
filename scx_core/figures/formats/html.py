"""The drawing as one interactive page that works offline: pyvis holds the graph, its vis-network draws it.

pyvis' page template is not used: it links a style library on a CDN, and shows any hover text that
contains "href" as markup. Ours carries the graph as JSON that cannot end its script element, shows
names as text only, and forbids every outside request by a content security policy.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from pathlib import Path
from string import Template
from typing import Any

import pyvis
from pyvis.network import Network

from scx_core.figures.drawing import colours
from scx_core.figures.drawing.drawing import Drawing
from scx_core.figures.drawing.legend import Entry, entries
from scx_core.figures.picture import BADGE

LIBRARY = "lib/vis-9.1.2/vis-network.min.js"
_OPTIONS = {
    "physics": {"enabled": False},
    "layout": {"hierarchical": {"enabled": False}},
    "nodes": {"labelHighlightBold": False},
    "edges": {
        "arrows": {"to": {"enabled": True, "scaleFactor": 0.42}},
        "smooth": {"enabled": True, "type": "cubicBezier", "forceDirection": "vertical", "roundness": 0.5},
        "selectionWidth": 0,
        "hoverWidth": 1,
        "chosen": False,
    },
    "interaction": {
        "hover": True,
        "tooltipDelay": 120,
        "dragNodes": True,
        "zoomView": False,
        "selectConnectedEdges": False,
    },
}


def circuit_page(
    drawing: Drawing,
    height: int | None = None,
    lit: frozenset[str] = frozenset(),
    *,
    packed: bool = False,
) -> str:
    """A whole HTML document. `height` in pixels; without it the page fills its window or frame.

    `lit` are ids of boxes that it opens on, with all that they are joined to. A circuit of many layers makes
    the page scroll rather than shrink out of sight. `packed`: the library lies in it compressed, which makes
    a fifth of a megabyte of half of one, where many circuits stand in one file.
    """
    data = drawing_data(drawing) | {"lit": [box.id for box in drawing.nodes if box.id in lit]}
    words = {
        "title": drawing.title,
        "subtitle": drawing.subtitle,
        "scores": drawing.scores,
        "notes": "; ".join(drawing.notes),
        "caption": drawing.caption,
        "provenance": drawing.provenance,
    }
    return Template(asset("page.html")).substitute(
        {key: html.escape(text) for key, text in words.items()},
        height=f"{int(height)}px" if height else "100vh",
        least=f"{max(240.0, 0.62 * drawing.height) if drawing.height > 900 else 240.0:.0f}px",
        style=asset("page.css"),
        scripts=_scripts(packed),
        legend=legend_html(drawing),
        explained="".join(f"<li>{html.escape(text)}</li>" for text in drawing.explained),
        data=script_json(data),
    )


def _scripts(packed: bool) -> str:
    """The library, and what draws with it."""
    drawing, own = asset("interactive/circuit.js"), asset("page.js")
    if not packed:
        return f"<script>{vis_network()}</script>\n<script>{drawing}{own}</script>"
    return (
        f'<script type="text/plain" id="library">{packed_text(vis_network())}</script>\n'
        f"<script>{asset('interactive/unpack.js')}{drawing}"
        f'window.scxUnpack("library").then(window.scxRun).then(() => {{{own}}});</script>'
    )


@functools.cache
def packed_text(text: str) -> str:
    """A text compressed, in letters that mean nothing in HTML, for unpack.js. Same text, same letters."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")


def to_pyvis(drawing: Drawing) -> Network:
    """The drawing as a pyvis network with fixed positions."""
    network = Network(directed=True)
    for box in drawing.nodes:
        network.add_node(
            box.id,
            label=box.label or " ",
            x=round(box.x, 2),
            y=round(box.y, 2),
            shape="custom",
            box=box._asdict(),
        )
    for link in drawing.links:
        network.add_edge(
            link.source,
            link.target,
            width=round(link.width, 3),
            strength=round(link.strength, 6),
            hover=list(link.hover),
            color={
                "color": link.colour,
                "hover": link.colour,
                "highlight": link.colour,
                "opacity": round(link.opacity, 3),
            },
        )
    network.options = _OPTIONS
    return network


def script_json(data: Any) -> str:
    """JSON for a script element: no text in it can close the element or start a comment."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def vis_network() -> str:
    """The vis-network script that pyvis carries."""
    return (Path(pyvis.__file__).parent / LIBRARY).read_text(encoding="utf-8")


def drawing_data(drawing: Drawing) -> dict[str, Any]:
    """The drawing as plain values for circuit.js: the pyvis network, and what stands around it."""
    nodes, edges, *_ = to_pyvis(drawing).get_network_data()
    return {
        "nodes": nodes,
        "edges": edges,
        "options": _OPTIONS,
        "rows": [row._asdict() for row in drawing.rows],
        "width": drawing.width,
        "height": drawing.height,
        "badge": BADGE,
        "muted": colours.MUTED,
        "markerFill": colours.MARKER_FILL,
        "markerLine": colours.MARKER_LINE,
        "onDark": colours.ON_DARK,
    }


@functools.cache
def asset(name: str) -> str:
    """A file that lies beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def legend_html(drawing: Drawing) -> str:
    """The legend as HTML; the samples are small inline SVGs."""
    shapes, lines = entries(drawing)
    return "".join(f"<span>{_sample(entry)}{html.escape(entry.words)}</span>" for entry in (*shapes, *lines))


_STAR = "M7 0.5L8.7 4.9L13.4 5.1L9.7 8.1L11 12.6L7 10L3 12.6L4.3 8.1L0.6 5.1L5.3 4.9Z"
_PILL = '<rect x="1" y="0.5" width="26" height="13" rx="{}" fill="{}" stroke="{}"/>'
_SHAPES = {
    "gene": _PILL.format(7, colours.effect_colour(1.0, 2.0), colours.WARM),
    "feature": _PILL.format(4, colours.PAPER, colours.effect_colour(1.0, 2.4)),
    "untold": _PILL.format(7, colours.UNTOLD, colours.BIAS_GREY),
    "marker": f'<path d="{_STAR}" fill="{colours.MARKER_FILL}" stroke="{colours.MARKER_LINE}"/>',
    "error": f'<path d="M7 0L14 7L7 14L0 7Z" fill="{colours.ERROR_GREY}"/>',
    "bias": f'<rect x="2" y="2" width="10" height="10" fill="{colours.BIAS_GREY}"/>',
}
_STEPS = [step / 12 for step in range(-12, 13)]
_SCALES = {
    "effect scale": ", ".join(colours.effect_colour(step, 1.0) for step in _STEPS),
    "share scale": ", ".join(colours.share_colour((step + 1) / 2) for step in _STEPS),
}


def _sample(entry: Entry) -> str:
    if entry.kind in _SCALES:
        return f'<i class="scale" style="background: linear-gradient(90deg, {_SCALES[entry.kind]})"></i>'
    width = 28 if entry.kind in ("gene", "feature", "untold") else 14 if entry.kind in _SHAPES else 24
    colour = colours.LINES.get(entry.kind, colours.MUTED)
    line = f'<path d="M0 7H24" stroke="{colour}" stroke-width="{entry.detail or 2.6:.1f}" opacity="0.85"/>'
    return f'<svg width="{width}" height="14" aria-hidden="true">{_SHAPES.get(entry.kind, line)}</svg>'
