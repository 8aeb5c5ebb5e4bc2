"""What a person does, in a real browser: to a circuit and its files, a bad upload, a training that stays."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scx_core.runs import list_runs, stop
from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]


FILE = '[data-testid="stMainBlockContainer"] [data-testid="stFileUploader"] input'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with server.app(place / "runs") as address:
        yield address
    for run in list_runs(place / "runs"):  # a job outlives the app, and a test that failed
        if run.status().state == "running":
            stop(run)


def test_an_address_of_a_page_opens_that_page_in_the_app(address: str) -> None:
    """First of all: only a fresh server shows whether Streamlit takes the file for the app."""
    from playwright.sync_api import expect

    with server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/data")
        expect(page.get_by_text("Is my file understood?")).to_be_visible()
        expect(page.get_by_test_id("stSidebarNavLink")).to_have_count(8)
        walk.no_errors(page)
    assert not outside


def test_from_the_start_to_a_circuit_and_its_files(address: str, tmp_path: Path) -> None:
    with server.browser() as (context, outside):
        walk.walk(context.new_page(), address, tmp_path, None)
    assert not outside


def test_every_page_fits_a_narrow_window(address: str) -> None:
    with server.browser(width=420) as (context, _):
        page = context.new_page()
        for name in ("", "data", "train", "validate", "circuits", "evidence", "features", "rate"):
            page.goto(f"{address}/{name}")
            walk.at_rest(page)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 1, name
            walk.no_errors(page)


# Words of a control that do not fit into it; a name of a cell type may be longer than any control.
CUT = """() => [...document.querySelectorAll(
  '[data-testid="stMainBlockContainer"] :is([data-testid="stSelectbox"], [data-testid="stPopover"]) *'
)].filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline"
  && getComputedStyle(e).overflowX !== "visible").map(e => e.value || e.innerText)"""


def test_the_controls_of_a_circuit_show_their_words_in_a_small_window(address: str) -> None:
    with server.browser(width=1000) as (context, _):
        page = context.new_page()
        page.goto(f"{address}/circuits")
        page.get_by_text(re.compile("over 30 cells of the type")).wait_for()
        walk.at_rest(page)
        assert page.evaluate(CUT) == []


def test_a_bad_upload_is_refused_in_words(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    bad = tmp_path / "<b>cells.h5ad"
    bad.write_bytes(b"<html>404</html>")
    with server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/data")
        walk.at_rest(page)
        page.get_by_test_id("stButtonGroup").get_by_text("Upload", exact=True).click()
        # Until then the only place for a file on the page is the one for labels.
        expect(page.get_by_text("Choose an .h5ad or a 10x .h5 file")).to_be_visible()
        walk.at_rest(page)
        expect(page.locator(FILE)).to_have_count(1)
        page.locator(FILE).set_input_files(bad)
        expect(page.get_by_text("it is a web page, so the download failed")).to_be_visible()
        walk.no_errors(page)
    assert not outside


def test_a_training_outlives_refresh_second_tab_and_kill(address: str, place: Path) -> None:
    """Of the recommended preset: long enough that no machine ends it while the test looks."""
    from playwright.sync_api import expect

    with server.browser() as (context, _):
        page = context.new_page()
        page.goto(f"{address}/train")
        name = page.get_by_role("textbox", name="Name of the run")
        name.fill("flow")
        name.press("Enter")
        walk.at_rest(page)  # with the estimate of time, so that nothing moves under the pointer
        page.get_by_role("button", name="Start training").click()
        heading = page.get_by_role("heading", name=re.compile("flow"))
        expect(heading).to_contain_text("running")
        page.reload()
        second = context.new_page()
        second.goto(f"{address}/train")
        for tab in (page, second):
            expect(tab.get_by_role("heading", name=re.compile("flow"))).to_contain_text("running")
        second.close()
        (run,) = list_runs(place / "runs")
        _wait(lambda: run.status().done >= 1)
        os.kill(run.status().pid, signal.SIGKILL)
        expect(heading).to_contain_text("interrupted")
        _press(page, "Resume")
        expect(heading).to_contain_text("running")
        _press(page, "Stop")
        expect(heading).to_contain_text("stopped")
        chosen = page.get_by_role("combobox", name="Run", exact=True)
        expect(chosen).to_have_value(re.compile("flow: .*stopped"))
        walk.no_errors(page)


def _press(page: Page, name: str) -> None:
    """A button of the run, once the page that draws it is done."""
    walk.at_rest(page)
    page.get_by_role("button", name=name, exact=True).click()


def _wait(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_measurement_outlives_refresh_second_tab_and_kill(address: str, place: Path) -> None:
    """A job as any other: what was known stays, an interruption is told in words, one click begins again."""
    from playwright.sync_api import expect

    with server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/validate")
        page.get_by_role("button", name="Measure again").wait_for()
        walk.at_rest(page)
        _press(page, "Measure again")
        expect(page.get_by_test_id("stMainBlockContainer")).to_contain_text(
            "It goes on when this page is left"
        )
        page.reload()
        second = context.new_page()
        second.goto(f"{address}/validate")
        for tab in (page, second):
            main = tab.get_by_test_id("stMainBlockContainer")
            expect(main).to_contain_text("It goes on when this page is left")
            expect(main).to_contain_text("CE recovered")  # what was known stays
        second.get_by_test_id("stSidebarNavLink").filter(has_text="Data").click()
        expect(second.get_by_text("Is my file understood?")).to_be_visible()
        second.close()
        jobs = list_runs(
            place / "runs" / "tasks" / "jobs"
        )  # a page that was open before may have begun a trial
        (run,) = (one for one in jobs if one.path.name.startswith("validation"))
        _wait(lambda: run.status().pid is not None)
        os.kill(run.status().pid, signal.SIGKILL)
        main = page.get_by_test_id("stMainBlockContainer")
        expect(main).to_contain_text("The process is gone")
        expect(main).to_contain_text("interrupted")
        _press(page, "Start again")
        expect(page.get_by_text("Measured when the set was made")).to_have_count(0)
        assert run.status().state == "done"
        walk.no_errors(page)
    assert not outside
