"""Cells and genes whose names are attacks, drawn as a circuit in a real browser: nothing of them runs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from scx_core.runs import LAST_USED, write_json
from tests.browser import server, walk
from tests.builders.hostile import hostile_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(server.missing()), reason=server.missing() or "there is a browser"),
]
LABELS = "() => [...window.circuit.boxes.values()].map((box) => box.label)"


def test_a_circuit_of_hostile_names_runs_no_script(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    file = hostile_file(tmp_path)
    write_json(runs / LAST_USED, {"data": str(file)}, durable=False)  # so that the link may open it
    dialogs: list[str] = []
    with server.app(runs) as address, server.browser() as (context, outside):
        page = context.new_page()
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(f"{address}/circuits?type=CD19%2B+B&cells=4&data={quote(str(file), safe='')}")
        page.frame_locator(walk.NETWORK_FRAME).first.locator("canvas").first.wait_for()
        walk.at_rest(page)
        frame = next(f for f in page.frames if f.url.split("?")[0].endswith(".picture/index.html"))
        labels = frame.evaluate(LABELS)
        strange = [label for label in labels if "<" in label or "](" in label]
        assert strange, labels
        inside = page.frame_locator(walk.NETWORK_FRAME).first
        inside.locator("#search").fill(strange[0])
        inside.locator("#search").press("Enter")  # its card opens beside the picture
        walk.at_rest(page)
        walk.no_errors(page)
        saved = walk.download(page, "HTML", tmp_path)
        page.set_content(saved.read_text("utf-8"))
        page.locator(walk.NETWORK_INSIDE).first.wait_for()
        page.wait_for_timeout(500)
    assert not dialogs and not outside
