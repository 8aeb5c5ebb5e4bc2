"""A page for `test_confusion.py`, run by Streamlit: what Validate says of labels, where there are 28 types
with long names, or those of the embedded default."""

import streamlit as st

from pages.parts.common.page import style
from pages.parts.validate.validation_view import labels
from scx_core.places import models_folder
from scx_core.runs import read_json
from scx_core.validation.result import Confusion, Validation, from_json

KINDS = ("CD4-positive, alpha-beta", "CD8-positive, alpha-beta", "gamma-delta", "mucosal invariant")
STATES = ("naive", "central memory", "effector memory", "cytotoxic", "exhausted", "cycling", "regulatory")
NAMES = tuple(f"{kind} {state} T cell" for kind in KINDS for state in STATES)


def many() -> Confusion:
    """Cells of each type, most of them called rightly; the others as the next type."""
    n = len(NAMES)
    cells = [[0] * n for _ in NAMES]
    for true, row in enumerate(cells):
        row[true] = 7 * true + 3
        row[(true + 1) % n] = 11
    counts = tuple(map(tuple, cells))
    return Confusion(NAMES, counts, counts)


def found() -> Validation:
    """What was measured of the embedded default."""
    path = models_folder() / "embedded-transcoders" / "validation.json"
    return from_json(read_json(path), str(path))


if __name__ == "__main__":
    st.set_page_config(layout="wide")
    style()
    st.title("Validate")
    st.sidebar.markdown("As wide as the menu")
    measured = found()
    labels(measured._replace(confusion=many()) if st.query_params.get("types") == "many" else measured)
