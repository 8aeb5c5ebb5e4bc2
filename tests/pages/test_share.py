"""A model is shared from the page Features: made in the background, then there to be taken away."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from pages.parts.features import share_view
from scx_core.runs import read_json
from scx_core.share import ShareConfig, stamp_of
from tests.pages.running import open_page, said, well


def make_button(app: AppTest) -> Button | None:
    return next((one for one in app.button if one.label.startswith("Make the file")), None)


def test_a_model_is_shared_in_the_background_and_again_when_more_is_known(
    runs: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_view, "CONFIG", ShareConfig(cells=1, features=40))
    app = well(open_page("features"))
    ask = make_button(app)
    assert ask is not None and "in the background" in ask.label and not list(runs.glob("shared/*"))
    app = well(ask.click().run())
    assert len(at_once) == 1 and "10 circuits" in said(app) and "0 types" in said(app)
    (page,) = runs.glob("shared/*.html")
    assert page.stat().st_size < 3e6 and "default-src 'none'" in page.read_text(encoding="utf-8")
    (kept,) = (read_json(path)["result"] for path in runs.glob("results/share/*.json"))
    assert kept["kept"] == page.name
    assert "Download" in [one.proto.label for one in app.get("download_button")]
    again = well(open_page("features"))
    assert make_button(again) is None
    assert "Download" in [one.proto.label for one in again.get("download_button")]
    before = stamp_of(runs)
    (runs / "evidence").mkdir(exist_ok=True)
    (runs / "evidence" / "new.json").write_text("{}", encoding="utf-8")
    assert stamp_of(runs) != before
    assert make_button(well(open_page("features")))
    (runs / "evidence" / "new.json").unlink()
    page.unlink()
    assert make_button(well(open_page("features")))
