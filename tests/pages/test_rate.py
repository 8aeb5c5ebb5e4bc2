"""The rating page: blinded units one by one, answers kept, agreement when one is through."""

from __future__ import annotations

from pathlib import Path

from scx_core.atlas import Atlas
from scx_core.atlas.rating.ratings import ratings
from tests.pages.running import button, open_page, said, well


def _answer(app, means: str, category: str | None, words: str = ""):
    app.radio[0].set_value(means)
    if category is not None:
        next(box for box in app.selectbox if box.label == "What to?").set_value(category)
    next(box for box in app.text_input if box.label == "In a few words").set_value(words)
    return well(button(app, "Keep and go on").click().run())


def test_two_units_are_rated_blind(kept_atlas: Path) -> None:
    app = well(open_page("rate"))
    assert "Give your name to begin" in said(app)
    assert "the middle one, layer 1" in said(app)
    app.text_input(key="kept rater").set_value("A. B.").run()
    words = said(well(app))
    assert "Unit 1" in words and "L1·" not in words and "transcoder" not in words
    assert "Activations: strongest 1%" in words or "Activations: weaker half" in words
    app = _answer(app, "Yes", None)
    assert "with a yes the second" in said(app)
    app = _answer(app, "Yes", "gene", "<i>HLA</i>")
    assert "Unit 2" in said(app)
    app = _answer(app, "No", None)
    assert "Unit 3" in said(app) and "L1·" not in said(app)
    kept = ratings(Atlas.open(kept_atlas))
    assert [(one.interpretable, one.category, one.rater) for one in kept] == [
        (True, "gene", "A. B."),
        (False, "polysemantic", "A. B."),
    ]


def test_through_and_revealed(kept_atlas: Path) -> None:
    from scx_core.atlas.rating.ratings import draw_units, paper_draw, rate

    atlas = Atlas.open(kept_atlas)
    for unit in draw_units(atlas, paper_draw(atlas)):
        rate(atlas, unit, True, "gene", "", "me")
    app = open_page("rate")
    app.text_input(key="kept rater").set_value("me").run()
    assert "You are through" in said(well(app))
    assert len(app.dataframe[1].value) == 20 and set(app.dataframe[0].value["second"]) == {"automatic"}
