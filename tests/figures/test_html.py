"""The page: offline, safe with any name, the same places as the figure; and what a browser makes of it."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scx_core.figures import View, circuit_page, sentence_html, simplify, to_pyvis
from scx_core.figures.formats.html import script_json, vis_network
from tests.builders.hostile import HOSTILE_TEXTS
from tests.figures.fakes import B_CELL, cell_circuit, consensus_circuit, hostile_circuit


class _Page(HTMLParser):
    """Every element with its attributes, and the text of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)


@pytest.mark.parametrize("circuit", [cell_circuit(), hostile_circuit()], ids=["plain", "hostile"])
def test_page_loads_nothing_and_runs_only_its_own_scripts(circuit):
    text = circuit_page(simplify(circuit, View()))
    page = _Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3
    assert not {"link", "img", "iframe", "object", "embed"} & set(tags)
    attributes = [name for _, found in page.elements for name in found]
    assert not [name for name in attributes if name in ("src", "href") or name.startswith("on")]
    own = text.replace(vis_network(), "").replace(page.scripts[0], "")  # the names are data
    assert not re.search(r"https?://|@import|url\(", own)
    policy = next(found["content"] for _, found in page.elements if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_data_in_the_page_is_the_drawing():
    drawing = simplify(hostile_circuit(), View())
    data = json.loads(_Page(circuit_page(drawing)).scripts[0])
    placed = {box.id: (box.x, box.y, box.label) for box in drawing.nodes}
    for node in data["nodes"]:
        x, y, label = placed[node["id"]]
        assert (node["x"], node["y"]) == pytest.approx((x, y), abs=0.01)
        assert node["box"]["label"] == label
    assert len(data["edges"]) == len(drawing.links)
    assert data["options"]["physics"] == {"enabled": False}


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS, "<!--", "]]>", "\u2029"])
def test_script_json_cannot_leave_its_element_and_reads_back(text):
    code = script_json({"a": text})
    assert not re.search(r"[<>&\u2028\u2029]", code)
    assert json.loads(code) == {"a": text}


def test_pyvis_network_keeps_direction_and_numbers():
    drawing = simplify(consensus_circuit(), View())
    network = to_pyvis(drawing)
    assert network.num_nodes() == len(drawing.nodes)
    assert network.edges[0]["arrows"] == "to"
    assert network.edges[-1]["width"] == pytest.approx(drawing.links[-1].width, abs=1e-3)


def test_height_and_determinism():
    drawing = simplify(cell_circuit(), View())
    assert '<body style="height: 480px">' in circuit_page(drawing, height=480)
    assert circuit_page(drawing) == circuit_page(drawing)


@pytest.mark.parametrize(
    "circuit", [hostile_circuit(), hostile_circuit("consensus")], ids=["cell", "consensus"]
)
def test_sentence_escapes_every_name(circuit):
    page = _Page(sentence_html(circuit, markers=frozenset(HOSTILE_TEXTS)))
    assert {tag for tag, _ in page.elements} == {"div", "span"}
    assert {name for _, found in page.elements for name in found} <= {"style", "title", "aria-hidden"}
    assert "<img src=x onerror=alert(1)>" in page.texts


def test_sentence_has_the_order_of_the_cell_and_says_what_it_leaves_out():
    circuit = cell_circuit()
    texts = _Page(sentence_html(circuit, max_genes=12)).texts
    assert [text for text in texts if text in circuit.sentence] == list(circuit.sentence[:12])
    assert "and 88 more" in texts
    titles = [found["title"] for _, found in _Page(sentence_html(circuit)).elements if "title" in found]
    assert len(titles) == 100
    assert all("logits" in title for title in titles)


@pytest.mark.parametrize("kind", ["plain", "hostile", "frame"])
def test_in_a_browser_nothing_is_fetched_nothing_fails_and_nothing_moves(browser, tmp_path: Path, kind):
    circuit = hostile_circuit() if kind == "hostile" else cell_circuit()
    drawing = simplify(circuit, View(), markers=frozenset(B_CELL))
    path = tmp_path / "page.html"
    text = circuit_page(drawing)
    if kind == "frame":  # the way an app embeds it
        text = f'<iframe width="1100" height="600" srcdoc="{html.escape(text)}"></iframe>'
    path.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    requests, troubles = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    frame = page.frames[-1]
    frame.wait_for_function("() => window.circuit !== undefined")
    page.wait_for_timeout(300)
    positions = frame.evaluate("() => circuit.network.getPositions()")
    page.close()
    assert [url for url in requests if url != path.as_uri() and not url.startswith("about:")] == []
    assert troubles == []
    for box in drawing.nodes:
        assert positions[box.id]["x"] == pytest.approx(box.x, abs=1)
        assert positions[box.id]["y"] == pytest.approx(box.y, abs=1)


def test_in_a_browser_hover_tells_the_numbers_as_text(browser, tmp_path: Path):
    circuit = hostile_circuit()
    path = tmp_path / "page.html"
    path.write_text(circuit_page(simplify(circuit, View())), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    page.goto(path.as_uri())
    page.wait_for_function("() => window.circuit !== undefined")
    x, y = page.evaluate(
        """() => {
          const frame = document.getElementById("network").getBoundingClientRect();
          const place = circuit.network.getPositions()["gene <img src=x onerror=alert(1)>"];
          const spot = circuit.network.canvasToDOM(place);
          return [spot.x + frame.left, spot.y + frame.top];
        }"""
    )
    page.mouse.move(x, y)
    page.wait_for_timeout(600)
    tooltip = page.locator("div.vis-tooltip")
    words, images = tooltip.inner_text(), tooltip.locator("img").count()
    page.close()
    assert words.startswith("<img src=x onerror=alert(1)>")
    assert "logits" in words
    assert images == 0
