"""The forms on the pages are the configurations themselves."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

CONFIGS = (
    "scx_core.training.config.TranscoderConfig",
    "scx_core.training.config.TrainConfig",
    "scx_core.build.recipe.RecipeConfig",
    "scx_core.sentences.SentenceConfig",
    "scx_core.circuits.TraceConfig",
    "scx_core.circuits.ConsensusConfig",
    "scx_core.figures.View",
    "scx_core.cells.CellChoices",
)


def show(path: str) -> None:
    import importlib

    import streamlit as st

    from pages.parts.common.forms import config_form
    from scx_core.runs import to_dict

    module, _, name = path.rpartition(".")
    made = config_form(getattr(importlib.import_module(module), name)(), "form")
    st.session_state["made"] = to_dict(made)


def form(path: str) -> AppTest:
    return AppTest.from_function(show, args=(path,), default_timeout=60).run()


@pytest.mark.parametrize("path", CONFIGS)
def test_an_untouched_form_gives_the_defaults(path: str) -> None:
    import importlib

    from scx_core.runs import options_of, to_dict

    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    app = form(path)
    assert not app.exception
    assert app.session_state["made"] == to_dict(cls())
    shown = len(app.number_input) + len(app.selectbox) + len(app.toggle) + len(app.text_input)
    assert shown == len(options_of(cls))


def test_a_changed_number_changes_the_configuration() -> None:
    app = form("scx_core.training.config.TrainConfig")
    app.number_input(key="form steps").set_value(12).run()
    assert app.session_state["made"]["steps"] == 12
    app.number_input(key="form learning_rate").set_value(1.5e-5).run()
    assert app.session_state["made"]["learning_rate"] == 1.5e-5


def test_every_option_has_a_name_of_its_own_that_says_what_it_is() -> None:
    import importlib

    from pages.parts.common.forms import _NAMES, label_of
    from scx_core.runs import options_of

    seen = set()
    for path in (*CONFIGS, "scx_core.build.BuildConfig"):
        module, _, name = path.rpartition(".")
        opts = options_of(getattr(importlib.import_module(module), name))
        labels = [label_of(opt) for opt in opts]
        assert len(set(labels)) == len(labels), path
        assert "L0" not in labels  # a penalty's weight, not the number of active features
        seen |= {opt.name for opt in opts}
    assert set(_NAMES) <= seen  # no name for an option that is gone


def test_a_switch_among_numbers_leaves_the_rows_aligned() -> None:
    """One row of columns for every three options, whatever their heights."""
    app = form("scx_core.training.config.TrainConfig")
    rows = [app.columns[start : start + 3] for start in range(0, len(app.columns), 3)]
    shown = [[len(column.children) for column in row] for row in rows]
    assert all(max(row) == 1 for row in shown) and len(rows) > 5


def _limited() -> None:
    import streamlit as st

    from pages.parts.common.session import kept

    most = st.number_input("most", value=95, key="most")
    st.text(kept(st.number_input, "How many", "cells", 30, min_value=2, max_value=most, step=1))


def test_a_number_that_is_only_limited_comes_back_where_there_is_room() -> None:
    app = AppTest.from_function(_limited).run()
    app.number_input(key="kept cells").set_value(60).run()
    for most, shown in ((22, "22"), (95, "60"), (22, "22"), (40, "40"), (95, "60")):
        app.number_input(key="most").set_value(most).run()
        assert app.text[0].value == shown
    app.number_input(key="most").set_value(22).run()
    app.number_input(key="kept cells").set_value(5).run()  # chosen anew
    app.number_input(key="most").set_value(95).run()
    assert app.text[0].value == "5"
