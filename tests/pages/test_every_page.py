"""Every page without data, with a damaged file, with a set of another model: a message that
names what is wrong, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from scx_core.transcoders import EMBEDDED_SETS
from tests.pages.running import PAGES, open_page, said, well

NEEDS_FIT = ("validate", "circuits", "evidence", "features")


def test_no_data_and_damaged_data(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8)
    for path in (tmp_path / "nowhere.h5ad", damaged):
        monkeypatch.setenv("SCX_DATA", str(path))
        app = None
        for page in PAGES:
            app = well(open_page(page, app))
            assert app.error and path.name in said(app), (page, path.name)


def test_a_set_of_another_model(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCX_TRANSCODERS", str(EMBEDDED_SETS["planted"]))
    app = None
    for page in PAGES:
        app = well(open_page(page, app))
        assert bool(app.error) or page not in NEEDS_FIT, page
