"""How long a person waits for the app, in a real browser: `python -m tests.browser.timing [--runs 3]`.

start → usable: from the command until the start page's button can be pressed, browser open already.
click → circuit: from the choice of another cell type until its circuit is drawn, model loaded already.
The first start of a run is not counted: it reads the libraries from the disk ("warm").
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scx_core.bench import machine
from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import Page

TYPES = ("CD14+ Monocyte", "CD56+ NK", "Dendritic")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print(machine())
    with server.browser() as (context, outside), tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            began = time.monotonic()
            with server.app(Path(folder) / "runs") as address:
                page = context.new_page()
                page.goto(address)
                page.get_by_role("button", name=walk.START_BUTTON).wait_for()
                if run:
                    print(f"start → usable: {time.monotonic() - began:.1f} s")
                if run == runs:
                    _clicks(page, address)
                page.close()
    assert not outside


def _clicks(page: Page, address: str) -> None:
    page.get_by_role("button", name=walk.START_BUTTON).click()
    _drawn(page, "CD19+ B")
    for name in TYPES:
        page.locator('[data-testid="stSelectbox"]').filter(has_text="Cell type").locator("input").click()
        choice = page.get_by_role("option", name=re.compile(re.escape(name)))
        choice.wait_for()
        began = time.monotonic()
        choice.click()
        _drawn(page, name)
        print(f"click → circuit: {time.monotonic() - began:.1f} s ({name})")


def _drawn(page: Page, name: str) -> None:
    """Wait for the sentence about this type, then for the network beside it and the page at rest."""
    page.get_by_text(re.compile(re.escape(name) + r".* over \d+ cells of the type")).wait_for()
    page.frame_locator(walk.NETWORK_FRAME).first.locator(walk.NETWORK_INSIDE).first.wait_for()


if __name__ == "__main__":
    main()
