"""Compare runs, on the page Validate: the runs of the model in use, their table and figure."""

from __future__ import annotations

from pathlib import Path

from scx_core.runs import RunFolder
from scx_core.training.config import TranscoderConfig
from tests.pages.running import open_page, said, well
from tests.validation.training_runs import a_run


def compared(app):
    """The table of runs: the one with a setting."""
    return next(found.value for found in app.dataframe if "setting" in found.value)


def test_without_runs_it_says_where_to_get_some(runs: Path) -> None:
    app = well(open_page("validate"))
    assert "There are no trainings yet" in said(app)
    assert [expander.label for expander in app.expander] == ["Compare runs"]


def test_runs_are_held_against_the_first_and_can_be_chosen(runs: Path) -> None:
    a_run(runs, "one", TranscoderConfig(k=8), finished={})
    a_run(runs, "two", TranscoderConfig(kind="topk", k=4), finished={"ce_recovered": 0.97})
    a_run(runs, "elsewhere", finished={}, model="x" * 64)
    elsewhere = RunFolder.open(runs / "elsewhere")
    elsewhere.update(config=elsewhere.config | {"model": "/another"})
    app = well(open_page("validate"))
    table = compared(app)
    assert list(table["run"]) == ["one", "two"], "those of the model in use"
    assert list(table["compares"]) == ["yes", "yes"] and list(table["setting"]) == ["k 8", "k 4"]
    assert len(app.get("image")) == 1
    assert {"PNG", "SVG", "PDF"} <= {button.label for button in app.get("download_button")}
    picker = next(found for found in app.multiselect if found.label == "Runs")
    picker.set_value(["two", "elsewhere"]).run()
    assert list(compared(well(app))["compares"]) == ["yes", "another model"]
    assert "1 run of another model" in said(app)
    picker.set_value([]).run()
    assert not [found for found in well(app).dataframe if "setting" in found.value]


def test_damaged_runs_and_runs_without_figures_do_not_break_the_page(runs: Path) -> None:
    broken = a_run(runs, "broken", finished={})
    (broken.path / "split.json").write_text("{")
    a_run(runs, "fresh")
    app = well(open_page("validate"))
    assert list(compared(app)["state"]) == ["damaged", "new"]
    assert "No run has an L0" in said(app) and "Measured when the set was made" in said(app)
