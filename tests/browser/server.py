"""The real app on a free port, and a headless browser that may reach nothing but this computer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.browser import walk

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ROOT = Path(__file__).resolve().parents[2]


def missing() -> str:
    """Why there can be no browser here, or nothing."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if walk.find_chromium() else "there is no chromium here"


@contextmanager
def app(runs: Path, script: str = "app.py") -> Iterator[str]:
    """The address of the app while it runs. It ends with its block; jobs that it started are the test's.
    `script`: another one than the dashboard's, from the checkout's root."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SCX_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)],
        cwd=ROOT,
        env=environment | {"SCX_RUNS": str(runs), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://localhost:{port}"
        walk.wait_until_ready(address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def browser(
    width: int = 1400, height: int = 900, scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A browser's context, and the list of what it asked for outside this computer. `scheme`: the colours
    that its system asks for."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=walk.STEP_MS)
    outside: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=walk.find_chromium(), headless=True, args=walk.FLAGS
        )
        context = chromium.new_context(
            accept_downloads=True, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        context.set_default_timeout(walk.STEP_MS)
        context.route("**/*", lambda route: walk.keep_local(route, outside))
        context.on("page", lambda page: page.on("websocket", partial(walk.note_socket, outside)))
        try:
            yield context, outside
        finally:
            chromium.close()
