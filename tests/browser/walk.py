"""Walk through the running app as a person would, in a browser that may reach nothing but this computer.

    python tests/browser/walk.py http://localhost:8501 --downloads FOLDER

start → "Show me a circuit" → the circuit is drawn → every export is downloaded and looked into. Ends with 1
and the reasons when a step fails, an error shows, or a request leaves the computer.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Error, Page, Route, WebSocket, expect, sync_playwright

# What the walk looks for: adapt it here when a page changes its words.
START_BUTTON = "Show me a circuit"
NETWORK_FRAME = 'iframe[title$=".picture"]'
NETWORK_INSIDE = "canvas, svg"
CIRCUIT_ADDRESS = re.compile("/circuits")
GENE_WORDS = re.compile(r"\bGenes?\b")
EXPORT_TAB = re.compile("Export", re.IGNORECASE)
DOWNLOAD_BUTTON = '[data-testid="stDownloadButton"] button'
EXPORTS = ("PNG", "SVG", "PDF", "HTML", "GraphML", "JSON", "CSV", "Neuronpedia")
AT_REST = """() => {
  const app = document.querySelector("[data-test-script-state]");
  const now = performance.now();
  window.restSince = app?.dataset.testScriptState === "notRunning" ? (window.restSince ?? now) : null;
  return window.restSince !== null && now - window.restSince > 500;
}"""
ERRORS = '[data-testid="stException"]'

# Generous: on a busy machine the first import of torch takes a minute, and slow is not wrong.
READY_S = 120  # until the server answers
STEP_MS = 180_000  # for one step of the walk
LOCAL = {"localhost", "127.0.0.1", "::1", "[::1]"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> int:
    """Walk; 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--downloads", type=Path, required=True, help="folder for what is downloaded")
    parser.add_argument("--picture", type=Path, help="save a screenshot of the circuit page here")
    args = parser.parse_args()
    args.downloads.mkdir(parents=True, exist_ok=True)
    wait_until_ready(args.url)
    outside: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=FLAGS)
        context = browser.new_context(accept_downloads=True, viewport={"width": 1440, "height": 1000})
        context.route("**/*", lambda route: keep_local(route, outside))
        page = context.new_page()
        page.set_default_timeout(STEP_MS)
        page.on("websocket", partial(note_socket, outside))
        try:
            walk(page, args.url, args.downloads, args.picture)
        except (Error, AssertionError) as error:
            page.screenshot(path=args.downloads / "failure.png", full_page=True)
            print(f"FAILED: {error}\nThe page said:\n{page.inner_text('body')[:3000]}", file=sys.stderr)
            return 1
        finally:
            browser.close()
    if outside:
        print("FAILED: requests left this computer:", *sorted(set(outside)), sep="\n  ", file=sys.stderr)
        return 1
    print("The walk is done; no request left this computer.")
    return 0


def walk(page: Page, url: str, downloads: Path, picture: Path | None) -> None:
    """The steps. Raises AssertionError or a Playwright error where the app is not as expected."""
    began = time.monotonic()
    page.goto(url)
    button = page.get_by_role("button", name=START_BUTTON)
    expect(button).to_be_visible(timeout=STEP_MS)
    print(f"start page usable after {time.monotonic() - began:.1f} s")

    began = time.monotonic()
    button.click()
    page.wait_for_url(CIRCUIT_ADDRESS, timeout=STEP_MS)
    network = page.frame_locator(NETWORK_FRAME).first.locator(NETWORK_INSIDE).first
    expect(network).to_be_visible(timeout=STEP_MS)
    expect(page.get_by_text(GENE_WORDS).first).to_be_visible(timeout=STEP_MS)
    print(f"circuit drawn after {time.monotonic() - began:.1f} s")
    no_errors(page)
    if picture:
        page.screenshot(path=picture, full_page=True)

    tab = page.get_by_role("tab", name=EXPORT_TAB)
    if tab.count():
        tab.first.click()
    for kind in EXPORTS:
        file = download(page, kind, downloads)
        check_file(kind, file)
        print(f"{kind}: {file.name}, {file.stat().st_size} bytes")
    no_errors(page)


def download(page: Page, kind: str, folder: Path) -> Path:
    """Press the button of one export and keep the file."""
    # By the exact text of its label: the name of the button holds its icon's as well.
    button = page.locator(DOWNLOAD_BUTTON).filter(has=page.get_by_text(kind, exact=True)).first
    expect(button).to_be_visible(timeout=STEP_MS)
    with page.expect_download(timeout=STEP_MS) as waiting:
        button.click()
    path = folder / Path(waiting.value.suggested_filename).name
    waiting.value.save_as(path)
    return path


def check_file(kind: str, path: Path) -> None:
    """Whether the file is what its name says. Raises AssertionError."""
    data = path.read_bytes()
    head = data[:2000].lstrip().lower()
    if kind == "PNG":
        right = data.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in data[-16:]
    elif kind == "PDF":
        right = data.startswith(b"%PDF-") and b"%%EOF" in data[-64:]
    elif kind == "SVG":
        right = b"<svg" in head and b"</svg>" in data[-64:]
    elif kind == "HTML":
        right = head.startswith((b"<!doctype html", b"<html")) and b"</html>" in data[-64:].lower()
        loads = re.search(rb"""(?:src|href)\s*=\s*["']?(?:https?:)?//[^"'\s>]+""", data, re.IGNORECASE)
        assert not loads, f"{path.name} is not stand-alone: {loads[0]!r}" if loads else ""
    elif kind == "GraphML":
        right = b"<graphml" in head and b"<node" in data
    elif kind == "JSON":
        content = json.loads(data)
        right = bool(content["genes"] and content["nodes"] and content["edges"])
    elif kind == "Neuronpedia":
        content = json.loads(data)
        right = content["metadata"]["schema_version"] == 1 and bool(content["nodes"] and content["links"])
    else:
        rows = list(csv.DictReader(line for line in data.decode("utf-8-sig").splitlines() if line[:1] != "#"))
        right = bool(rows) and any("gene" in str(column).lower() for column in rows[0])
    assert right, f"{path.name} ({len(data)} bytes) is no {kind}: it begins with {data[:60]!r}"


def no_errors(page: Page) -> None:
    """Raise AssertionError when the app shows an exception."""
    shown = page.locator(ERRORS)
    assert not shown.count(), f"the page shows an error: {shown.first.inner_text()[:1000]}"


def at_rest(page: Page) -> None:
    """Wait until the page is drawn and the app has had nothing to do for it for half a second."""
    page.wait_for_selector("h1", timeout=STEP_MS)
    page.evaluate("delete window.restSince")
    page.wait_for_function(AT_REST, timeout=STEP_MS)


def note_socket(outside: list[str], socket: WebSocket) -> None:
    """Note a connection that leaves this computer."""
    note_outside(socket.url, outside)


def keep_local(route: Route, outside: list[str]) -> None:
    """Let a request through, or note it and cut it off."""
    if note_outside(route.request.url, outside):
        route.abort()
    else:
        route.continue_()


def note_outside(url: str, outside: list[str]) -> bool:
    """Whether `url` leaves this computer; it is added to the list then."""
    parts = urlsplit(url)
    local = parts.scheme in ("data", "blob", "about") or (parts.hostname or "") in LOCAL
    if not local:
        outside.append(url)
    return not local


def find_chromium() -> str | None:
    """The installed browser; None leaves the choice to Playwright."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def wait_until_ready(url: str) -> None:
    """Wait for the server's health page. Raises SystemExit when it does not come."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: no app answers at {url} after {READY_S} s")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
