"""The start page: what is loaded, and the way to a circuit."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from streamlit.config import get_config_options
from streamlit.testing.v1 import AppTest

from pages.parts.common import page as frame
from tests.pages.running import ROOT, button, open_page, said, well


def test_three_cards_say_what_is_loaded(runs: Path) -> None:
    app = well(open_page())
    words = said(app)
    assert words.count(":gray-badge[loaded]") == 3 and "10 of 10 types have an answer" in words
    assert "700 cells × 765 genes" in words
    assert "10 cell types" in words
    assert "Three steps to a circuit" in words


NEXT = frame._NEXT
HEAVY = (
    "torch", "transformers", "scanpy", "matplotlib", "numba", "pandas", "anndata", "zarr", "h5py", "scipy",
    "pyarrow", "altair", "pydantic",
)  # fmt: skip


def test_the_first_button_does_not_wait_for_what_reads_cells_and_models(tmp_path: Path) -> None:
    """What is imported until the button is drawn, by the app's frame, the side bar and the page itself,
    whether at their heads or on the way."""
    code = f"""
import os, sys
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest
tools, draw = set(sys.modules), DeltaGenerator.button
def button(self, label, *args, **more):
    if label == "Show me a circuit":
        heavy, now = set({HEAVY}), set(sys.modules)
        print("at the button:", sorted(heavy & (now - tools)), sorted(heavy & tools))
        sys.stdout.flush()
        os._exit(0)  # before the cards, which load everything
    return draw(self, label, *args, **more)
DeltaGenerator.button = button
AppTest.from_file({str(ROOT / "app.py")!r}, default_timeout=240).run()
"""
    environment = os.environ | {"SCX_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1:] == ["at the button: [] []"], done.stdout + done.stderr


def test_the_circuits_page_is_imported_while_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of its first visit, and never beside a page that imports itself."""
    asked: list[str] = []
    monkeypatch.setattr(frame, "_NEXT", ("scx_no_such_room", "scx_neither"))
    monkeypatch.setattr(frame, "import_module", asked.append)
    monkeypatch.setattr(frame, "Thread", _AtOnce)
    frame.page_begins()
    frame._import_ahead()
    assert not asked
    frame.page_is_drawn()
    assert asked == ["scx_no_such_room", "scx_neither"]
    for name in NEXT:
        assert import_module(name)
    page = (ROOT / "app.py").read_text("utf-8")
    assert page.index("page_begins()") < page.index("page.run()") < page.index("page_is_drawn()")


class _AtOnce:
    """A thread that has done its work when it is started."""

    def __init__(self, target: Callable[[], None], daemon: bool) -> None:
        self.start = target


def test_the_side_bar_says_what_is_in_use(runs: Path) -> None:
    # The first run only: after it, AppTest takes the folder called pages for the app, as no server does.
    bar = well(AppTest.from_file(ROOT / "app.py", default_timeout=240).run()).sidebar
    words = "\n".join(element.value for element in (*bar.markdown, *bar.caption))
    for part in (
        "[Cells] 700 blood cells",
        "[Model] embedded",
        "[Transcoders] embedded",
        "[Device] C",
        "No job",
    ):
        assert part in words
    assert {"Model", "Transcoders", "Device"} <= {box.label for box in bar.selectbox}


def test_the_primary_button_shows_a_circuit(runs: Path) -> None:
    app = button(open_page(), "Show me a circuit").click().run()
    assert "CD19+ B" in said(well(app))
    assert app.get("component_instance")
    assert len(app.get("download_button")) >= 7


def test_the_last_circuit_is_shown_as_a_picture(runs: Path) -> None:
    app = open_page("circuits")
    app = well(open_page("start", app))
    assert "The last circuit" in said(app)
    assert app.get("imgs") or app.get("image")


def test_a_missing_model_is_a_message_and_the_rest_of_the_page_stays(
    runs: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SCX_MODEL", str(tmp_path / "no <b>model</b>"))
    app = well(open_page())
    assert "There is no model folder" in said(app)
    assert "700 cells × 765 genes" in said(app)
    assert all("<b>" not in str(error.value).replace("\\<", "") for error in app.error)


def test_no_click_waits_for_a_collection_of_garbage() -> None:
    """Streamlit collects after every run, unless told not to: with torch loaded that takes a second."""
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    assert settings["runner"]["postScriptGC"] is False
    assert "runner.postScriptGC" in get_config_options()  # an option of that name exists
