"""What a person does, in a real browser: to a circuit and its files, a bad upload, a training that stays."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scx_core.runs import list_runs
from tests.browser import server, walk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]


LONG = pytest.mark.skipif(
    os.environ.get("SCX_LONG_FLOWS") != "1", reason="a long flow, for a quiet machine: set SCX_LONG_FLOWS=1"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with server.app(place / "runs") as address:
        yield address


@LONG
def test_an_address_of_a_page_opens_that_page_in_the_app(address: str) -> None:
    """First of all: only a fresh server shows whether Streamlit takes the file for the app."""
    from playwright.sync_api import expect

    with server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/data")
        expect(page.get_by_text("Is my file understood?")).to_be_visible()
        expect(page.get_by_test_id("stSidebarNavLink")).to_have_count(5)
        walk.no_errors(page)
    assert not outside


def test_from_the_start_to_a_circuit_and_its_files(address: str, tmp_path: Path) -> None:
    with server.browser() as (context, outside):
        walk.walk(context.new_page(), address, tmp_path, None)
    assert not outside


def test_every_page_fits_a_narrow_window(address: str) -> None:
    with server.browser(width=420) as (context, _):
        page = context.new_page()
        for name in ("", "data", "train", "validate", "circuits"):
            page.goto(f"{address}/{name}")
            page.wait_for_selector("h1")
            page.wait_for_selector('[data-testid="stStatusWidget"]', state="detached")
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 1, name
            walk.no_errors(page)


@LONG
def test_a_bad_upload_is_refused_in_words(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    bad = tmp_path / "<b>cells.h5ad"
    bad.write_bytes(b"<html>404</html>")
    with server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/data")
        page.get_by_text("Upload", exact=True).first.click()
        page.locator('input[type="file"]').first.set_input_files(bad)
        expect(page.get_by_text("it is a web page, so the download failed")).to_be_visible()
        walk.no_errors(page)
    assert not outside


@LONG
def test_a_training_outlives_refresh_second_tab_and_kill(address: str, place: Path) -> None:
    from playwright.sync_api import expect

    with server.browser() as (context, _):
        page = context.new_page()
        page.goto(f"{address}/train")
        page.get_by_role("button", name="Choose").last.click()  # the quick look
        page.get_by_label("Name of the run").fill("flow")
        page.get_by_role("button", name="Start training").click()
        heading = page.get_by_role("heading", name=re.compile("flow"))
        expect(heading).to_contain_text("running")
        page.reload()
        second = context.new_page()
        second.goto(f"{address}/train")
        for tab in (page, second):
            expect(tab.get_by_role("heading", name=re.compile("flow"))).to_contain_text("running")
        (run,) = list_runs(place / "runs")
        _wait(lambda: run.status().done >= 2)
        os.kill(run.status().pid, signal.SIGKILL)
        expect(heading).to_contain_text("interrupted")
        page.get_by_role("button", name="Resume").click()
        expect(heading).to_contain_text("running")
        page.get_by_role("button", name="Stop").click()
        expect(heading).to_contain_text("stopped")
        walk.no_errors(page)


def _wait(condition, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)
