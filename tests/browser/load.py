"""How the app bears use: `python -m tests.browser.load [--reruns 200] [--clicks 8]`.

memory: one session draws the page of circuits again and again, by turns of two cell types that are in memory;
the resident memory of the server after each. It should grow by less than 5% after the first 50.
sessions: three sessions click while a training of transcoders runs in the background: seconds from the choice
of a cell type that is in memory to the drawn page at rest, and their median, which should be below 1 s.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from scx_core.bench import machine
from scx_core.runs import RunFolder, stop
from scx_core.training.config import PRESETS
from tests.browser import server, walk

if TYPE_CHECKING:
    from playwright.sync_api import Page

TYPES = ("CD19+ B", "CD56+ NK")
FEW = 4  # cells of a circuit
SETTLED = 50  # reruns after which memory is compared
SESSIONS = 3
HALF_A_SECOND = 0.5  # that `walk.at_rest` waits for more to come


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reruns", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=8)
    args = parser.parse_args()
    print(machine())
    with server.browser() as (context, outside), tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        with server.app(runs) as address:
            pages = [context.new_page() for _ in range(SESSIONS)]
            _open(pages[0], address)
            _memory(pages[0], address, args.reruns)
            for page in pages[1:]:
                _open(page, address)
            _sessions(pages, address, runs, args.clicks)
    assert not outside


def _open(page: Page, address: str) -> None:
    for name in TYPES[::-1]:
        page.goto(f"{address}/circuits?type={name.replace('+', '%2B')}&cells={FEW}")
        page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
        walk.at_rest(page)


def _memory(page: Page, address: str, reruns: int) -> None:
    server_pid = next(
        found.pid
        for found in psutil.process_iter(["cmdline"])
        if address.rpartition(":")[2] in (found.info["cmdline"] or ())
    )
    process, resident = psutil.Process(server_pid), []
    for number in range(reruns):
        _choose(page, TYPES[(number + 1) % 2])
        resident.append(process.memory_info().rss / 2**20)
        if number % 25 == 24:
            print(f"memory after {number + 1} reruns: {resident[-1]:.0f} MiB", flush=True)
    if reruns > SETTLED:
        first, last = resident[SETTLED - 1], resident[-1]
        print(f"memory: {first:.0f} MiB after {SETTLED}, {last:.0f} after {reruns}: {last / first - 1:+.1%}")


def _sessions(pages: list[Page], address: str, runs: Path, clicks: int) -> None:
    from scx_core.build import launch_training
    from scx_core.cells import open_cells
    from scx_core.language import load_language
    from scx_core.training.config import TrainingJob

    lm, preset = load_language("embedded"), PRESETS["recommended"]
    job = TrainingJob(sentences=lm.sentence_config, transcoder=preset.transcoder, train=preset.train)
    run: RunFolder = launch_training(job, lm, open_cells("embedded"), "load", runs)
    try:
        while run.status().done < 2 and run.status().state == "running":
            time.sleep(0.5)
        turns = [(page, TYPES[(number + 1) % 2]) for number in range(clicks) for page in pages]
        taken = [_choose(page, name) for page, name in turns]
        state = run.status()
        print(
            f"{SESSIONS} sessions while a training runs ({state.state}, step {state.done}): median "
            f"{statistics.median(taken):.2f} s, from {min(taken):.2f} to {max(taken):.2f} s, n = {len(taken)}"
        )
    finally:
        stop(run)


def _choose(page: Page, name: str) -> float:
    """Choose a cell type; seconds until the page is drawn and at rest."""
    box = page.locator('[data-testid="stSelectbox"]').filter(has_text="Cell type").locator("input").first
    box.click()
    box.fill(name)  # what is far down the list is not drawn
    choice = page.get_by_role("option", name=re.compile(rf"^{re.escape(name)}")).first  # and how many cells
    choice.wait_for()
    began = time.monotonic()
    choice.click()
    page.get_by_text(f"{name} over {FEW} cells").first.wait_for()
    walk.at_rest(page)
    return max(0.0, time.monotonic() - began - HALF_A_SECOND)


if __name__ == "__main__":
    main()
