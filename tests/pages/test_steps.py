"""Steps and differences on the circuit page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.pictures import words as words_of
from tests.pages.running import open_page, pick, said, well


def test_features_that_act_together_are_drawn_as_one(runs: Path) -> None:
    app = well(open_page("circuits"))
    assert "features that act together" in " ".join(e.label for e in app.expander)
    before = words_of(app)
    next(t for t in app.toggle if t.label.startswith("Join")).set_value(True).run()
    after = words_of(well(app))
    assert before != after
    assert "joined" in after
    assert "joined" not in before
    (table,) = [one.value for one in app.dataframe if "step" in one.value.columns]
    assert (table["step"] != "").sum() > 4


def test_the_difference_of_two_types(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.parts.circuits.controls.DEFAULT_CELLS", 5)
    app = well(open_page("circuits"))
    assert "Difference" not in pick(app, "Cells").options, "from which type is not said yet"
    pick(app, "Against").set_value("Dendritic").run()
    pick(well(app), "Cells").set_value("Difference").run()
    words = said(well(app)).replace("**", "")
    assert "CD19+ B less Dendritic" in words
    assert "mean over cells of the first type less" in words
    assert "Dendritic" in words_of(app)
