"""The validation page: what lies beside a set is shown at once; measuring anew takes its place."""

from __future__ import annotations

from pathlib import Path

from tests.pages.running import button, open_page, said, well


def test_the_embedded_table_is_shown_at_once(runs: Path) -> None:
    app = well(open_page("validate"))
    words = said(app)
    for part in ("Measured when the set was made", "CE recovered", "KL", "L0", "Label agreement", "held-out"):
        assert part in words
    assert len(app.dataframe) >= 2


def test_measuring_takes_its_place_and_is_kept(runs: Path, at_once: list[str]) -> None:
    app = open_page("validate")
    app.number_input[0].set_value(3).run()
    button(app, "Measure again").click().run()
    words = said(well(app))
    assert "Measured when the set was made" not in words
    assert "n = 3 test cells" in words
    app = well(open_page("validate", open_page("start", app)))
    assert "n = 3 test cells" in said(app)
