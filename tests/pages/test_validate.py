"""The validation page: what lies beside a set is shown at once; measuring anew takes its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.common.words import safe
from pages.parts.validate.validation_view import _BOXES, share_span
from scx_core.statistics.intervals import Interval
from scx_core.transcoders import load_set
from scx_core.validation import validation_beside
from scx_core.validation.warnings import NOT, READ, WITH_CARE, judged
from tests.cells.good_cells import good_cells
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


def test_a_good_verdict_is_no_warning() -> None:
    """The colour of the box is that of the verdict: whether circuits may be read."""
    boxes = {read: box.__name__ for read, (box, _) in _BOXES.items()}
    assert boxes == {READ: "success", WITH_CARE: "warning", NOT: "error"}


def test_the_verdict_of_the_embedded_set_stands_in_its_own_box(runs: Path) -> None:
    app = open_page("validate")
    made = validation_beside(load_set("embedded").folder, {})
    judgement = judged(made)
    box = getattr(app, _BOXES[judgement.read][0].__name__)
    assert any(safe(judgement.words) in one.value for one in box)


def test_cells_without_an_answer_are_one_message(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pancreas and the model of blood: nothing to measure on, and what to do."""
    adata = good_cells()
    adata.obs["cell_type"] = [f"pancreas {n % 3}" for n in range(adata.n_obs)]
    adata.write_h5ad(tmp_path / "pancreas.h5ad")
    monkeypatch.setenv("SCX_DATA", str(tmp_path / "pancreas.h5ad"))
    app = well(open_page("validate"))
    assert app.error and "has no answer for any type of pancreas.h5ad" in said(app)
    assert "Map the types to its answers" in said(app)


def _show_beside(found) -> None:  # it runs as a script of its own, without this file's imports
    from pages.parts.validate.validation_view import beside

    beside(found)


def test_where_a_linear_map_leaves_no_loss_nothing_is_won_back(runs: Path) -> None:
    made = validation_beside(load_set("embedded").folder, {})
    assert made is not None and made.added is not None
    nothing = Interval(math.nan, math.nan)
    added = made.added._replace(won_back=math.nan, won_back_interval=nothing, agreement_gain=-0.023)
    added = added._replace(agreement_gain_interval=Interval(-0.083, 0.933))
    app = AppTest.from_function(_show_beside, args=(made._replace(added=added),)).run()
    words = said(well(app))
    span_of_share = share_span(Interval(0.598, 0.858))
    assert "no loss is left that features could win back" in words and "– [–, –]" not in words
    assert span_of_share == "[59.8%, 85.8%]", "as the share itself"
    assert "a difference of -2.3 points [-8.3, +93.3]" in words and "more cells" not in words
