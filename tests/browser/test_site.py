"""The documentation site as it lies on a disk: nothing is asked of elsewhere, the search finds, and every
function has its page. `python docs/build.py` builds it; without it these tests are skipped."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.walk import FLAGS

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("SCX_SITE") or ROOT / "docs" / "_build" / "html")
BUILT = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="the site is not built: docs/build.py")
SILENT = re.compile(r"import |from |\w+ = ")  # the last line of a cell that shows nothing
PAGES = (
    "index.html", "start.html", "tutorials/1-pbmc.html", "tutorials/6-interpretability.html", "method.html",
    "gallery_built/index.html", "reference/generated/commands.html", "reference/generated/tl.consensus.html",
)  # fmt: skip


def face() -> list[str]:
    """Every public function: pp.encode, tl.consensus …"""
    found = []
    for short in ("pp", "tl", "pl"):
        module = importlib.import_module(f"scx_core.{short}")
        found += [f"{short}.{name}" for name in module.__all__ if inspect.isfunction(getattr(module, name))]
    return found


@pytest.fixture(scope="module")
def page() -> Iterator[tuple]:
    """A page of a browser that notes every request that is no file, and every error of a script."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next((path for path in map(Path, CHROMIUM) if path.exists()), None)
    if chromium is None:
        pytest.skip("no chromium")
    outside: list[str] = []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(chromium), args=FLAGS)
        shown = browser.new_page()
        shown.on("request", lambda one: outside.append(one.url) if not _here(one.url) else None)
        yield shown, outside
        browser.close()


CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


def _here(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "about:"))


@BUILT
def test_pages_ask_nothing_of_elsewhere(page):
    shown, outside = page
    for name in PAGES:
        shown.goto((SITE / name).as_uri(), wait_until="load")
        assert shown.locator("h1").first.inner_text().strip()
    assert not outside


@BUILT
@pytest.mark.parametrize(
    ("words", "wanted"), [("virtual weights", "glossary"), ("VWF", "evidence"), ("consensus", "tl.consensus")]
)
def test_the_search_finds(page, words, wanted):
    shown, outside = page
    shown.goto(f"{(SITE / 'search.html').as_uri()}?q={words.replace(' ', '+')}", wait_until="load")
    shown.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    shown.wait_for_function("document.querySelector('#search-results .search-summary, #search-results p')")
    found = [one.get_attribute("href") or "" for one in shown.locator("ul.search li > a").all()]
    assert any(wanted in one for one in found), found
    assert not outside


@BUILT
@pytest.mark.parametrize("name", face())
def test_every_public_function_has_a_page_with_an_example(name):
    text = (SITE / "reference" / "generated" / f"{name}.html").read_text(encoding="utf-8")
    assert "Examples" in text and "&gt;&gt;&gt;" in text


@BUILT
@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "tutorials").glob("[1-9]-*.md")), ids=lambda p: p.stem
)
def test_tutorials_were_executed_but_the_fifth(path):
    """Every cell that ends in something to show has an output."""
    text = (SITE / "tutorials" / f"{path.stem}.html").read_text(encoding="utf-8")
    if path.name.startswith("5-"):
        assert "not executed here" in text and "cell_output" not in text
        return
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    shown = [cell for cell in cells if "remove-cell" not in cell]
    assert text.count('class="cell docutils container"') == len(shown) > 5
    silent = [cell for cell in shown if "--quiet" in cell or SILENT.match(cell.strip().splitlines()[-1])]
    assert text.count("cell_output docutils container") >= len(shown) - len(silent)
    assert "Traceback (most recent" not in text


@BUILT
def test_every_tile_of_the_gallery_has_a_picture_of_its_own():
    names = [path.stem for path in sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))]
    tiles = [(SITE / "_images" / f"sphx_glr_{name}_thumb.png").read_bytes() for name in names]
    assert len(set(tiles)) == len(names) > 5  # without a picture a tile shows the same sign as others
    index = (SITE / "gallery_built" / "index.html").read_text(encoding="utf-8")
    for name in names:
        assert f"sphx_glr_{name}_thumb.png" in index
        picture = f"sphx_glr_{name}_001.png"
        assert picture in (SITE / "gallery_built" / f"{name}.html").read_text(encoding="utf-8")
        assert (SITE / "_images" / picture).stat().st_size > 20_000
