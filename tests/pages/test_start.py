"""The start page: what is loaded, and the way to a circuit."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from streamlit.config import get_config_options
from streamlit.testing.v1 import AppTest

from tests.pages.running import ROOT, button, open_page, said, well


def test_three_cards_say_what_is_loaded(runs: Path) -> None:
    app = well(open_page())
    words = said(app)
    assert words.count(":gray-badge[loaded]") == 3 and "10 of 10 types have an answer" in words
    assert "700 cells × 765 genes" in words
    assert "10 cell types" in words
    assert "Three steps to a circuit" in words


def test_the_first_button_does_not_wait_for_torch() -> None:
    """What is imported before the page is drawn, by the app's frame and by the page itself."""
    code = (
        "import ast, pathlib, sys\n"
        "for name in ('app.py', 'pages/start.py'):\n"
        "    for part in ast.parse(pathlib.Path(name).read_text()).body:\n"
        "        if isinstance(part, ast.Import | ast.ImportFrom):\n"
        "            exec(ast.unparse(part))\n"
        "print(sorted({'torch', 'transformers', 'scanpy', 'matplotlib', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


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
