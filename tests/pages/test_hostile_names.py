"""Hostile names on every page at once: labels, genes, ids, donors, the file's own name and those of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.builders.hostile import (
    FETCHED,
    HOSTILE_GENE,
    HOSTILE_LABEL,
    HOSTILE_TEXTS,
    RAW,
    hostile_file,
)
from tests.pages.running import PAGES, open_page, well
from tests.validation.training_runs import a_run


def told(app: AppTest) -> Iterator[tuple[str, str, bool]]:
    """What is read as Markdown or HTML: kind, text, whether it is HTML."""
    for node in [*app.main, *app.sidebar]:
        proto = getattr(node, "proto", None)
        kind = str(getattr(node, "type", ""))
        if proto is None or kind in ("text", "code", "json"):
            continue
        for part in (proto, *(getattr(proto, name, None) for name in ("expandable", "tab", "popover"))):
            for field in ("label", "help", "body"):
                text = getattr(part, field, "")
                if isinstance(text, str) and text:
                    yield kind, text, kind == "html" or bool(getattr(part, "allow_html", False))


def harmless(app: AppTest, where: str) -> None:
    """No piece of a name is markup; Markdown without HTML shows tags as text, but fetches and links."""
    for kind, text, is_html in told(app):
        assert not [piece for piece in FETCHED if piece in text], (where, kind, text[:400])
        if is_html:
            assert not [piece for piece in RAW if piece in text], (where, kind, text[:400])


def test_every_page_with_cells_that_are_called_anything(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(HOSTILE_TEXTS)) >= 40
    path = hostile_file(tmp_path)
    monkeypatch.setenv("SCX_DATA", str(path))
    monkeypatch.setattr("pages.parts.circuits.controls.DEFAULT_CELLS", 2)
    monkeypatch.setattr("pages.parts.train.new_run.show_estimate", lambda *_, **__: None)  # no trial steps
    run = a_run(runs, "one", finished={})
    run.update(provenance={"model": {"name": HOSTILE_LABEL}, "data": {"name": HOSTILE_GENE}})
    app, shown = None, 0
    for page in PAGES:
        app = well(open_page(page, app))
        harmless(app, page)
        shown += sum("onerror" in text or "alert" in text for _, text, _ in told(app))
    assert shown > 20  # names were there to be shown
