"""The documentation site as it lies on a disk: nothing is asked of elsewhere, the search finds, and every
function has its page. `python docs/build.py` builds it; without it these tests are skipped."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.walk import FLAGS

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("SCX_SITE") or ROOT / "docs" / "_build" / "html")
BUILT = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="the site is not built: docs/build.py")
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
def test_tutorials_were_executed_but_the_fifth():
    for path in sorted((SITE / "tutorials").glob("[1-9]-*.html")):
        text = path.read_text(encoding="utf-8")
        executed = "cell_output" in text
        assert executed != path.name.startswith("5-"), path.name
    assert "not executed here" in (SITE / "tutorials" / "5-pythia.html").read_text(encoding="utf-8")
