"""Which types are taken for which, at the widths that people have: every name and number can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tests.browser import server, walk
from tests.browser.tour import HEIGHTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
CHART = '[data-testid="stVegaLiteChart"]'
# Of each table: its words, those that lie outside it, whether all of it can be reached, numbers that touch.
TABLES = f"""() => [...document.querySelectorAll('{CHART}')].map((chart) => {{
  const svg = chart.querySelector("svg"), all = svg.getBoundingClientRect();
  const words = [...svg.querySelectorAll("text")].filter((one) => one.textContent);
  const box = (one) => one.getBoundingClientRect();
  const out = words.filter((one) => box(one).left < all.left - 6 || box(one).right > all.right + 6
    || box(one).top < all.top - 6 || box(one).bottom > all.bottom + 6);  // of a line, not its letters
  let place = chart.parentElement;
  while (getComputedStyle(place).overflowX === "visible") place = place.parentElement;
  const scrolls = ["auto", "scroll"].includes(getComputedStyle(place).overflowX);
  const reach = box(place).left - place.scrollLeft + (scrolls ? place.scrollWidth : place.clientWidth);
  const numbers = words.filter((one) => /^[0-9]+$/.test(one.textContent)).map(box);
  const touching = numbers.filter((a, i) => numbers.some((b, k) => k > i && a.left < b.right
    && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
  const title = box(words.find((one) => one.textContent === "label in the data"));
  const covered = words.map(box).filter((one) => one.left < title.right && one.right > title.left + 1
    && one.top < title.bottom && one.bottom > title.top).length - 1;
  return {{
    covered, words: words.map((one) => one.textContent), out: out.map((one) => one.textContent),
    reached: all.right <= reach + 1, touching: touching.length, numbers: numbers.length,
  }};
}})"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("confusion") / "runs"
    with server.app(runs, "tests/browser/confusion_page.py") as address:
        yield address


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1280, "dark"), (1920, "light")])
@pytest.mark.parametrize("types", ["few", "many"])
def test_every_type_and_number_of_the_confusion_can_be_read(
    address: str, width: int, scheme: Literal["light", "dark"], types: str
) -> None:
    from tests.browser.confusion_page import NAMES, found

    names = NAMES if types == "many" else found().confusion.labels
    with server.browser(width, HEIGHTS[width], scheme) as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/?types={types}")
        page.locator(f"{CHART} svg").nth(1).wait_for()
        walk.at_rest(page)
        tables: list[dict[str, Any]] = page.evaluate(TABLES)
        sideways = page.evaluate(
            "(() => { const all = document.querySelector('[data-testid=stMain]');"
            " return all.scrollWidth - all.clientWidth; })()"
        )
        walk.no_errors(page)
    assert len(tables) == 2, "the model, and every MLP replaced"
    for one in tables:
        assert all(one["words"].count(name) == 2 for name in names), "whole, as row and as column"
        assert not one["out"] and one["reached"]
        assert not one["covered"], "the title of the rows stands beside their names"
        assert one["numbers"] >= len(names) - 2 and not one["touching"]
    assert sideways <= 0 and not outside, "the page itself does not scroll to the side"
