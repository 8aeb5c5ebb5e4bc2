"""The trainings side by side: a table, the Pareto plot, downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, columns_of, download
from pages.parts.common.session import context
from pages.parts.common.words import FORMS, HELP, count, safe
from scx_core.errors import ScxError
from scx_core.figures import PARETO_FORMATS, pareto_picture
from scx_core.runs import RunFolder, list_runs, runs_root
from scx_core.validation import compare_runs, comparison_provenance, name_of, trainings

_MIME = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}
_PICTURES: Memory[bytes] = Memory(8)


def compare_view() -> None:
    """An expander with the trainings that are chosen; the first is what the others are held against."""
    with st.expander("Compare runs", icon=":material/stacked_line_chart:"), shown_errors():
        runs = {name_of(run): run for run in trainings(list_runs(runs_root()))}
        if not runs:
            st.caption("There are no trainings yet: start some on the page Train, with different settings.")
            return
        chosen = st.multiselect(
            "Runs",
            list(runs),
            default=_on_this_model(runs),
            help="The first is what the others are held against.",
        )
        if chosen:
            _compared([runs[name] for name in chosen])


def _on_this_model(runs: Mapping[str, RunFolder]) -> list[str]:
    """The trainings on the model in use; all where there is none, as something must be compared."""
    model = context().model
    return [name for name, run in runs.items() if run.config.get("model") == model] or list(runs)


def _compared(runs: list[RunFolder]) -> None:
    table, known = compare_runs(runs), comparison_provenance(runs)
    _table(table)
    others = int((~table["comparable"]).sum())
    if others:
        st.caption(
            f":orange[:material/warning:] {count(others, 'run')} of another model, other cells or damaged. "
            "The column “Compares” says what differs; the figure leaves them out."
        )
    _figure(table, known)


def _table(table: pd.DataFrame) -> None:
    shown = table.assign(
        form=table["form"].map(lambda name: FORMS.get(name, name)),
        compares=table["why_not"].where(~table["comparable"], "yes"),
        on=table["cells"].map(lambda n: "" if pd.isna(n) else f"{n:.0f} cells, ") + table["measured"],
    )
    columns: dict[str, Column] = {
        "state": ("State",),
        "form": ("Form", None, HELP["form"]),
        "kind": ("Kind",),
        "setting": ("Setting", None, "k, the wanted L0, or the penalty's weight λ."),
        "features": ("Features a layer", "%d"),
        "skip": ("Skip", "switch", "With an affine path beside the features."),
        "l0": ("L0", "%.1f", HELP["l0"]),
        "fvu": ("FVU", "%.4f", HELP["fvu"]),
        "ce_recovered": ("CE recovered", "%.4f", HELP["ce_recovered"]),
        "kl": ("KL", "%.4f", HELP["kl"]),
        "dead": ("Dead", "percent", HELP["dead"]),
        "label_agreement": (
            "Label agreement", "percent", f"{HELP['agreement']} Where a validation lies beside.",
        ),
        "compares": ("Compares", None, "With the first run; else what differs."),
        "on": ("Measured on",),
        "steps": ("Steps", "%d"),
        "tokens": ("Tokens", "compact", "Read by the steps."),
        "seconds": (
            "Seconds", "%.0f", "Of the steps; from the speed where the run does not log it.",
        ),
        "model": ("Model", None, "Fingerprint."),
        "data": ("Cells", None, "Fingerprint."),
    }  # fmt: skip
    config = {"run": st.column_config.TextColumn("Run", pinned=True)} | columns_of(columns)
    st.dataframe(shown, column_config=config, column_order=list(config), hide_index=True, placeholder="–")


def _figure(table: pd.DataFrame, known: Mapping[str, Any]) -> None:
    """The plot and one button a format; a file is made when it is asked for, and kept."""
    mark = pd.util.hash_pandas_object(table, index=False).sum()
    try:
        picture = _made(table, "png", known, mark)()
    except ScxError as error:
        st.caption(safe(error.problem))
        return
    st.image(picture, width="stretch")
    with st.container(horizontal=True):
        for name in PARETO_FORMATS:
            file = _made(table, name, known, mark)
            download(
                name.upper(), file, f"runs.{name}", _MIME[name], key=f"compared {name}", kind="secondary"
            )


def _made(table: pd.DataFrame, name: str, known: Mapping[str, Any], mark: int) -> Callable[[], bytes]:
    make = partial(pareto_picture, table, name, known)
    return partial(_PICTURES.get, (name, int(mark)), make)
