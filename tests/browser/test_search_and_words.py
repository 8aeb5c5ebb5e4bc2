"""In a browser: names are completed while one types, a reload keeps the search, a term leads to its word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import server, walk

if server.missing():
    pytest.skip(server.missing(), allow_module_level=True)


def test_a_search_is_completed_and_kept_and_a_term_explained(tmp_path: Path) -> None:
    with server.app(tmp_path / "runs") as address, server.browser() as (context, outside):
        page = context.new_page()
        page.goto(f"{address}/features")
        walk.at_rest(page)
        box = page.locator('[data-testid="stSelectbox"]').filter(has_text="Search").locator("input")
        box.click()
        box.press_sequentially("CD20", delay=40)
        page.get_by_role("option", name="MS4A1 (CD20)").click()
        page.wait_for_url("**find=MS4A1**")
        walk.at_rest(page)
        found = page.get_by_text("Choose a row to open it").inner_text()
        page.reload()
        walk.at_rest(page)
        assert page.get_by_text("Choose a row to open it").inner_text() == found
        with context.expect_page() as opened:
            page.get_by_role("link", name="stand-ins").click()
        words = opened.value
        walk.at_rest(words)
        assert "Sparse stand-ins for the model's MLPs" in words.get_by_test_id("stAlert").first.inner_text()
        assert not outside
