"""How long a large circuit's picture takes in a browser: `python -m tests.browser.many_boxes [--runs 3]`.

A made-up one (`tests/figures/fakes.py`) goes through the functions that every circuit goes through, and
is drawn by the dashboard's own component, which is told it as Streamlit would tell it, and as the page that
is exported. Printed are, in seconds:

placed     Python: what is shown, where, in which colours, as JSON
picture    the component: from the message to the second frame that the browser shows after it
lit        a click on the box with the most arrows: until the frame that shows its paths
page       the exported page: from its address to the second frame with the circuit
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pyvis

from pages.parts.circuits import graph
from scx_core.bench import machine
from scx_core.figures import Drawing, View, circuit_page, simplify
from scx_core.figures.formats import html
from tests.browser import server
from tests.figures.fakes import wide_circuit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

SIZES = (100, 300)  # boxes: half of them genes, half features, and the answer with its competitors
READ = 33  # boxes that each feature reads
EVERY_ARROW = 100_000
WHERE = "http://localhost/component/"
OWN = "pages.parts.circuits.graph."
FOLDERS = {
    "picture": Path(graph.__file__).parent / "picture",
    "vis": Path(pyvis.__file__).parent / Path(html.LIBRARY).parent,
    "drawing": Path(html.__file__).parent / "interactive",
}
FRAME = f"""<!doctype html><meta charset="utf-8"><body style="margin: 0">
<iframe title="picture" src="{WHERE}{OWN}picture/index.html" width="1100" height="900"></iframe>"""
TELL = """(args) => new Promise((done) => {
  const frame = document.querySelector("iframe").contentWindow, began = performance.now();
  frame.postMessage({ type: "streamlit:render", args, theme: { base: "light" } }, "*");
  const wait = () => (frame.circuit ? frame.requestAnimationFrame(() => frame.requestAnimationFrame(
    () => done((performance.now() - began) / 1000))) : setTimeout(wait, 5));
  wait();
})"""
SHOWN = """() => new Promise((done) => {
  const wait = () => (window.circuit ? requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now() / 1000))) : setTimeout(wait, 5));
  wait();
})"""
LIT = """(id) => new Promise((done) => {
  const began = performance.now();
  document.querySelector(`#keys [data-id="${CSS.escape(id)}"]`).click();
  requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));
})"""


class Taken(NamedTuple):
    """Seconds of each part; see above."""

    placed: float
    picture: float
    lit: float
    page: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print(machine())
    with server.browser(1400, 1000) as (context, _outside):
        page = context.new_page()
        for boxes in SIZES:
            for arrows in (0, EVERY_ARROW):
                for _ in range(runs):
                    drawing, taken = measure(page, boxes, arrows)
                    parts = ", ".join(f"{name} {value:.2f}" for name, value in taken._asdict().items())
                    print(f"{len(drawing.nodes)} boxes, {len(drawing.links):,} arrows: {parts}", flush=True)


def measure(page: Page, boxes: int, arrows: int = 0) -> tuple[Drawing, Taken]:
    """A circuit of so many boxes, drawn both ways. `arrows`: most of them, 0 as many as the dashboard draws.
    The component stays open in `page`'s frame."""
    half = boxes // 2 - 1
    circuit = wide_circuit(half, half, READ)
    view = View(
        size="screen", max_genes=half, max_features=half, max_edges=arrows,
        min_edge_share=0.0 if arrows else View().min_edge_share,
    )  # fmt: skip
    began = time.monotonic()
    drawing = simplify(circuit, view)
    told = told_of(drawing)
    json.dumps(told)
    placed = time.monotonic() - began

    page.route(f"{WHERE}**", _serve)
    exported = circuit_page(drawing)
    page.route(f"{WHERE}page", lambda route: route.fulfill(body=exported, content_type="text/html"))
    page.goto(f"{WHERE}page")
    shown = page.evaluate(SHOWN)
    page.unroute(f"{WHERE}page")

    page.goto(f"{WHERE}frame")
    inside = page.frames[-1]
    inside.wait_for_function("() => window.scxCircuit !== undefined")
    picture = page.evaluate(TELL, told)
    busiest = Counter(end for link in drawing.links for end in link[:2]).most_common(1)[0][0]
    lit = inside.evaluate(LIT, busiest)
    return drawing, Taken(placed, picture, lit, shown)


def told_of(drawing: Drawing) -> dict[str, Any]:
    """What the component is told of a drawing that nobody has touched."""
    own = {"pinned": [], "edits": False, "said": "", "rowFont": 14}
    return {
        "drawing": html.drawing_data(drawing) | own, "mark": "one", "chosen": [], "lit": [], "same": False,
        "fixed": False, "presented": False, "height": 900,
    }  # fmt: skip


def _serve(route: Route) -> None:
    """The component's files, as Streamlit serves them."""
    folder, _, name = urlsplit(route.request.url).path.removeprefix("/component/").partition("/")
    if folder == "frame":
        route.fulfill(body=FRAME, content_type="text/html")
    else:
        route.fulfill(path=FOLDERS[folder.removeprefix(OWN)] / name)


if __name__ == "__main__":
    main()
