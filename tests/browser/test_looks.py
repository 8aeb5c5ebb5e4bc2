"""The picture at the widths and colours that people have, in a real browser: what is seen, and how large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import scx_core as scx
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.runs.files import to_json_text
from tests.browser import server, walk
from tests.browser.tour import HEIGHTS
from tests.builders.evidence import OTHER, tiny_evidence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
FEW = "circuits?type=CD19%2B+B&cells=4"
SIZES = """() => {
  const { boxes, network } = window.circuit, scale = network.getScale();
  const least = Math.min(...[...boxes.values()].map((box) => (box.below ? 0.8 : 1) * box.font));
  const foot = ([id, box]) => network.canvasToDOM({ x: 0, y: network.getPosition(id).y + box.height / 2 }).y;
  const lowest = Math.max(...[...boxes].map(foot));
  return { least: least * scale, lowest, room: document.getElementById("network").clientHeight };
}"""
HEAD = """() => {
  const box = (one) => one.getBoundingClientRect();
  const places = (name) => [...document.querySelector(name).children].map(box);
  const middles = places(".st-key-head").map((place) => (place.top + place.bottom) / 2);
  const title = document.querySelector(".st-key-head h1").getBoundingClientRect();
  const wide = document.querySelector('[data-testid="stMain"]');
  return {
    spread: Math.max(...middles) - Math.min(...middles), title: title.width, high: title.height,
    overflow: wide.scrollWidth - wide.clientWidth,
    controls: new Set(places(".st-key-line").filter((one) => one.height).map((one) => one.bottom | 0)).size,
  };
}"""
# The right edge of the page, and of every picture that is seen.
EDGES = """() => {
  const main = document.querySelector('[data-testid="stMainBlockContainer"]');
  const images = [...main.querySelectorAll("img")].map((one) => one.getBoundingClientRect());
  return [main.getBoundingClientRect().right, images.filter((one) => one.width).map((one) => one.right)];
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server.app(tmp_path_factory.mktemp("looks") / "runs") as address:
        yield address


@pytest.mark.parametrize(
    ("width", "scheme", "view"),
    [(1000, "light", "&settings=all"), (1280, "dark", ""), (1920, "light", "&settings=all")],
)
def test_the_whole_circuit_is_seen_in_one_line_of_controls(
    address: str, width: int, scheme: Literal["light", "dark"], view: str
) -> None:
    with server.browser(width, HEIGHTS[width], scheme) as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/{FEW}{view}")
        page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
        walk.at_rest(page)
        frame = next(one for one in page.frames if one.url.split("?")[0].endswith(".picture/index.html"))
        found, head = frame.evaluate(SIZES), page.evaluate(HEAD)
        place = page.locator(walk.NETWORK_FRAME).first.bounding_box()
        ground = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        walk.no_errors(page)
    assert place is not None and place["y"] + place["height"] <= HEIGHTS[width], "seen without scrolling"
    assert found["lowest"] <= found["room"], "with its genes"
    spread = 12 if width > 1000 else 40  # there the question has a line of its own
    assert head["spread"] < spread and head["high"] < 60 and head["title"] > 80, "a heading of one line"
    assert head["controls"] == 1 and head["overflow"] <= 0
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 150) == (scheme == "dark")
    if width == 1920:
        assert found["least"] >= 14
    assert not outside


def test_an_audience_sees_large_type_and_the_keys_step_through_the_types(address: str) -> None:
    from playwright.sync_api import expect

    with server.browser(1920, HEIGHTS[1920], "dark") as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/{FEW}&present=yes")
        heading = page.locator("h1")
        inside = page.frame_locator(walk.NETWORK_FRAME).first
        inside.locator("canvas").first.wait_for()
        walk.at_rest(page)
        frame = next(one for one in page.frames if one.url.split("?")[0].endswith(".picture/index.html"))
        found, place = frame.evaluate(SIZES), page.locator(walk.NETWORK_FRAME).first.bounding_box()
        assert found["least"] >= 14 and found["lowest"] <= found["room"]
        assert place is not None and place["width"] > 1800 and place["y"] + place["height"] <= HEIGHTS[1920]
        assert not page.locator('[data-testid="stSidebar"]').is_visible()
        assert not page.get_by_text("Cell type", exact=True).is_visible()
        page.keyboard.press("ArrowRight")
        expect(heading).to_have_text("CD34+")
        walk.at_rest(page)
        inside.locator("canvas").first.click(position={"x": 5, "y": 5})  # the focus is in the picture now
        walk.at_rest(page)  # a key that meets a page at work may be lost
        page.keyboard.press("ArrowLeft")
        expect(heading).to_have_text("CD19+ B")
        walk.at_rest(page)
        page.keyboard.press("Escape")
        expect(page.get_by_text("Cell type", exact=True)).to_be_visible()
        walk.no_errors(page)
    assert not outside


def test_the_figures_of_the_evidence_are_whole_in_a_narrow_window(tmp_path: Path) -> None:
    runs, tracer = tmp_path / "runs", scx.tl.tracer("embedded")
    path = evidence_file(tracer, OTHER, TypesConfig(), siblings(tracer), runs)
    path.parent.mkdir(parents=True)
    path.write_text(to_json_text(tiny_evidence().of(OTHER).to_json()), encoding="utf-8")
    with server.app(runs) as address, server.browser(1000) as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/evidence")
        page.get_by_test_id("stImage").locator("img").first.wait_for()
        walk.at_rest(page)
        room, edges = page.evaluate(EDGES)
        walk.no_errors(page)
    assert edges and max(edges) <= room, "cut off at the right"
    assert not outside
