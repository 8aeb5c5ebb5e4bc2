"""The picture at the widths and colours that people have, in a real browser: what is seen, and how large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from tests.browser import server, walk
from tests.browser.tour import HEIGHTS

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
    controls: new Set(places(".st-key-line").map((place) => Math.round(place.bottom))).size,
  };
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server.app(tmp_path_factory.mktemp("looks") / "runs") as address:
        yield address


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1280, "dark"), (1920, "light")])
def test_the_whole_circuit_is_seen_in_one_line_of_controls(
    address: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    with server.browser(width, HEIGHTS[width], scheme) as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/{FEW}")
        page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
        walk.at_rest(page)
        frame = next(one for one in page.frames if one.url.split("?")[0].endswith(".picture/index.html"))
        found, head = frame.evaluate(SIZES), page.evaluate(HEAD)
        place = page.locator(walk.NETWORK_FRAME).first.bounding_box()
        ground = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        walk.no_errors(page)
    assert place is not None and place["y"] + place["height"] <= HEIGHTS[width], "seen without scrolling"
    assert found["lowest"] <= found["room"], "with its genes"
    assert head["spread"] < 12 and head["high"] < 60 and head["title"] > 80, "a heading of one line"
    assert head["controls"] == 1 and head["overflow"] <= 0
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 150) == (scheme == "dark")
    if width == 1920:
        assert found["least"] >= 14
    assert not outside
