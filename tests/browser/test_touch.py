"""What a person does with a circuit, in a real browser that may reach nothing outside this computer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Frame, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
FEW = "circuits?type=CD19%2B+B&cells=4"
FIND = """(label) => {
  const { boxes, network } = window.circuit;
  const id = [...boxes.keys()].find((key) => boxes.get(key).label === label);
  return network.canvasToDOM(network.getPosition(id));
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server.app(tmp_path_factory.mktemp("touch") / "runs") as address:
        yield address


def opened(context: BrowserContext, url: str) -> tuple[Page, Frame]:
    """The page with its picture drawn."""
    page = context.new_page()
    page.goto(url)
    page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
    walk.at_rest(page)
    return page, next(
        frame for frame in page.frames if frame.url.split("?")[0].endswith(".picture/index.html")
    )


def click(page: Page, frame: Frame, label: str) -> None:
    """On the canvas, where the box of this label is."""
    point = frame.evaluate(FIND, label)
    place = page.frame_locator(walk.NETWORK_FRAME).first.locator("#network").bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + point["x"], place["y"] + point["y"])


def test_a_gene_s_card_its_switch_and_the_link_to_it(address: str) -> None:
    from playwright.sync_api import expect

    with server.browser(1280, 800) as (context, outside):
        page, frame = opened(context, f"{address}/{FEW}")
        picture = page.locator(walk.NETWORK_FRAME).first.bounding_box()
        assert picture is not None and picture["y"] + picture["height"] <= 800, "seen without scrolling"
        click(page, frame, "CD79A")
        card = page.locator(".st-key-card")
        expect(card.get_by_role("heading", name="CD79A")).to_be_visible()
        page.get_by_role("button", name="Switch this gene off").click()
        expect(card.locator("h5")).to_contain_text("→")
        expect(card).to_contain_text("Predicted (frozen attribution)")
        walk.at_rest(page)
        link = page.url
        assert "box=gene+CD79A" in link
        chosen = frame.evaluate("window.circuit.network.getSelectedNodes()")
        walk.no_errors(page)
    with server.browser(1280, 800) as (context, more):
        page, frame = opened(context, link)
        expect(page.locator(".st-key-card").get_by_role("heading", name="CD79A")).to_be_visible()
        assert frame.evaluate("window.circuit.network.getSelectedNodes()") == chosen
        walk.no_errors(page)
    assert not outside and not more


def test_by_keyboard_a_box_is_found_hidden_and_brought_back(address: str) -> None:
    from playwright.sync_api import expect

    with server.browser() as (context, outside):
        page, frame = opened(context, f"{address}/{FEW}")
        inside = page.frame_locator(walk.NETWORK_FRAME).first
        inside.locator("#search").fill("CD79B")
        inside.locator("#search").press("Enter")
        card = page.locator(".st-key-card")
        expect(card.get_by_role("heading", name="CD79B")).to_be_visible()
        key = inside.get_by_role("option", name=re.compile("^CD79A, gene"))
        key.focus()
        key.press("Enter")
        expect(card.get_by_role("heading", name="CD79A")).to_be_visible()
        inside.locator("#hide").press("Enter")
        expect(key).to_have_count(0)
        inside.locator("#undo").click()
        expect(key).to_have_count(1)
        before = frame.evaluate("window.circuit.network.getScale()")
        inside.locator("#network").hover()
        page.mouse.wheel(0, -400)
        assert frame.evaluate("window.circuit.network.getScale()") > before
        inside.locator("#link").click()
        expect(inside.locator("#said")).to_have_text("The link is copied.")
        walk.no_errors(page)
    assert not outside


def test_cells_are_drawn_around_and_theirs_is_the_circuit(address: str) -> None:
    from playwright.sync_api import expect

    with server.browser(1280, 900) as (context, outside):
        page, _ = opened(context, f"{address}/{FEW}")
        page.get_by_role("button", name="Cells in view").click()
        cells = page.frame_locator('iframe[title$=".cells"]')
        cells.locator("#legend button").first.wait_for()
        walk.at_rest(page)
        frame = next(f for f in page.frames if f.url.split("?")[0].endswith(".cells/index.html"))
        x, y = frame.evaluate("window.cells.place(5)")
        place = cells.locator("canvas").bounding_box()
        assert place is not None
        x, y = place["x"] + x, place["y"] + y
        page.mouse.move(x - 9, y - 9)
        page.mouse.down()
        for dx, dy in ((9, -9), (9, 9), (-9, 9), (-9, -9)):
            page.mouse.move(x + dx, y + dy, steps=3)
        page.mouse.up()
        expect(page.get_by_text(re.compile("chosen by hand;|in one cell"))).to_be_visible()
        walk.at_rest(page)
        assert "rows=" in page.url or "scope=One+cell" in page.url
        walk.no_errors(page)
    assert not outside


def test_two_types_stand_beside_each_other_and_are_one_file(address: str, tmp_path: Path) -> None:
    with server.browser() as (context, outside):
        page, _ = opened(context, f"{address}/{FEW}&against=Dendritic&scope=Difference")
        button = page.locator(walk.DOWNLOAD_BUTTON).filter(has=page.get_by_text("Both as PNG", exact=True))
        with page.expect_download() as waiting:
            button.click()
        waiting.value.save_as(tmp_path / "both.png")
        assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
        walk.no_errors(page)
    assert not outside
