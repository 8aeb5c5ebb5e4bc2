"""Pictures of every page: `python -m tests.browser.tour --out docs/tour [--all] [--only circuits]`.

The app runs on a free port with the embedded default and an empty folder of runs; a headless browser that may
reach nothing but this computer looks at each page at three widths, in light and in dark. Without `--all` only
those that the documentation shows are kept. Pictures are PNG with a palette of at most 256 colours.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import Page

HEIGHTS = {1000: 760, 1280: 800, 1920: 1080}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# What the documentation shows.
KEPT = (
    "start-1280-light", "data-1280-light", "train-1280-light", "validate-1000-light", "circuits-1280-light",
    "circuits-1280-dark", "circuits-1920-light", "circuits-1000-light", "card-1280-light", "card-1920-dark",
    "cells-1280-light", "cells-1280-dark", "evidence-1280-light", "features-1280-light",
    "rate-1000-dark",
)  # fmt: skip


class Stop(NamedTuple):
    """A view of the tour: its name, its address behind the app's, and what is done there first."""

    name: str
    address: str
    then: Callable[[Page], None] | None = None


def drawn(page: Page) -> None:
    """Wait for the picture of the circuit."""
    page.frame_locator(walk.NETWORK_FRAME).first.locator(walk.NETWORK_INSIDE).first.wait_for()


def cells(page: Page) -> None:
    """Open the map of the cells."""
    drawn(page)
    walk.at_rest(page)
    page.get_by_role("button", name="Cells in view").click()
    page.frame_locator('iframe[title$=".cells"]').locator("#legend button").first.wait_for()


def compared(page: Page) -> None:
    """Down to two types beside each other."""
    drawn(page)
    walk.at_rest(page)
    page.get_by_role("heading", name=re.compile(" beside ")).scroll_into_view_if_needed()
    page.mouse.wheel(0, 700)


def tried(page: Page) -> None:
    """Wait for the trial that says how long a training will take."""
    page.get_by_text("of memory").first.wait_for()


STOPS = (
    Stop("start", ""),
    Stop("data", "data"),
    Stop("train", "train", tried),
    Stop("validate", "validate"),
    Stop("circuits", "circuits", drawn),
    Stop("settings", "circuits?settings=all", drawn),
    Stop("present", "circuits?present=yes", drawn),
    Stop("card", "circuits?box=gene+CD79A", drawn),
    Stop("compare", "circuits?against=Dendritic&scope=Difference", compared),
    Stop("cells", "circuits", cells),
    Stop("evidence", "evidence"),
    Stop("features", "features"),
    Stop("rate", "rate"),
    Stop("words", "words"),
)


def tour(address: str, stops: Iterable[Stop], out: Path, wanted: Callable[[str], bool], whole: bool) -> None:
    """Go through `stops` at each width and in both schemes, and keep the pictures that are wanted."""
    for scheme in SCHEMES:
        for width, height in HEIGHTS.items():
            names = {stop: f"{stop.name}-{width}-{scheme}" for stop in stops}
            if not any(map(wanted, names.values())):
                continue
            with server.browser(width, height, scheme) as (context, outside):
                page = context.new_page()
                for stop, name in names.items():
                    if wanted(name):
                        look(page, address, stop)
                        small(page.screenshot(full_page=False), out / f"{name}.png")
                        if whole:
                            _whole(page, out / f"{name}-whole.png", width)
                        print(name, flush=True)
                assert not outside, outside


def look(page: Page, address: str, stop: Stop) -> None:
    """The page as it stands when it is drawn."""
    page.goto(f"{address}/{stop.address}")
    walk.at_rest(page)
    if stop.then is not None:
        stop.then(page)
    walk.at_rest(page)
    page.wait_for_timeout(700)  # charts and fonts come after the page
    walk.no_errors(page)


def _whole(page: Page, path: Path, width: int) -> None:
    """The page to its end: Streamlit scrolls inside its window, so the window is made as high as it is."""
    high = page.evaluate("document.querySelector('[data-testid=\"stMain\"]')?.scrollHeight ?? innerHeight")
    size = page.viewport_size
    page.set_viewport_size({"width": width, "height": min(6000, int(high) + 20)})
    page.wait_for_timeout(600)
    small(page.screenshot(), path)
    if size is not None:
        page.set_viewport_size(size)


def small(data: bytes, path: Path) -> None:
    """Write a picture with a palette: a third of the size."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/tour"))
    parser.add_argument("--all", action="store_true", help="every page at every width, light and dark")
    parser.add_argument("--only", default="", help="only pictures whose name matches this expression")
    parser.add_argument("--whole", action="store_true", help="also each page to its end")
    parser.add_argument("--address", default="", help="of an app that runs already")
    args = parser.parse_args()

    def wanted(name: str) -> bool:
        return (args.all or name in KEPT) and re.search(args.only, name) is not None

    if args.address:
        return tour(args.address, STOPS, args.out, wanted, args.whole)
    with tempfile.TemporaryDirectory() as folder, server.app(Path(folder) / "runs") as address:
        return tour(address, STOPS, args.out, wanted, args.whole)


if __name__ == "__main__":
    main()
