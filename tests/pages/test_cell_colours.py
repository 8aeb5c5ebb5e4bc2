"""Cells coloured by a feature: asked for, then grey for nothing and fifths of the largest activation."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def test_cells_are_coloured_by_a_feature_once_that_is_asked_for() -> None:
    def page() -> None:
        import numpy as np
        import streamlit as st

        from pages.parts.circuits import cells_view
        from pages.parts.common import loaders
        from pages.parts.common.session import context

        tracer = loaders.tracer(context())
        found = cells_view._activation(tracer, np.arange(12), "L1-285")
        sizes = [] if found is None else [row[2] for row in cells_view.by_value(found, "x").legend]
        st.text(f"{sum(sizes)}")
        cells_view._activation(tracer, np.arange(12), "285")

    app = AppTest.from_function(page, default_timeout=120).run()
    assert not app.exception and app.text[0].value == "0"
    assert "by its layer and number" in app.caption[0].value
    app.button[0].click().run()
    assert not app.exception and app.text[0].value == "12"
