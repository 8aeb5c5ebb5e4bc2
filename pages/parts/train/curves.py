"""The curves of a training, from the run's folder: the same after a refresh and in a second tab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.charts import curve_chart
from pages.parts.common.words import HELP
from scx_core.runs import RunFolder, list_runs

MOST_POINTS = 240
_TRAIN = (
    ("fvu", "FVU", "fvu", True),
    ("l0", "L0, active features a token", "l0", False),
    ("dead", "Dead features, share", "dead", False),
    ("ce_recovered", "CE recovered, all layers replaced", "ce_recovered", False),
)
_MODEL = (
    ("loss", "Loss, nats a token", "ce", False),
    ("answer_loss", "Loss of the answer, nats a token", "ce", False),
)


def curves(run: RunFolder) -> None:
    """What the run has measured so far; of a build, the model and each set."""
    if run.kind == "train":
        _charts(run.metrics(), _TRAIN)
        return
    inner = list_runs(run.path)
    presets = [part.name.removeprefix("train-") for part in inner]
    names = ["Model", *(f"Transcoders, {preset}" for preset in presets)]
    # Another key for another number of tabs: the one that is new is shown when its training begins.
    tabs = st.tabs(names, default=names[-1], key=f"curves {run.name} {len(names)}")
    for tab, part in zip(tabs, [run, *inner], strict=True):
        with tab:
            _charts(part.metrics(), _MODEL if part is run else _TRAIN)


def _charts(records: Sequence[dict[str, Any]], wanted: Sequence[tuple[str, str, str, bool]]) -> None:
    if not records:
        st.caption("Nothing is measured yet.")
        return
    places = st.columns(2)
    for place, (key, title, term, log) in enumerate(wanted):
        rows = series(records, key)
        with places[place % 2]:
            if rows.empty:
                st.caption(f"{title}: not measured yet.")
                continue
            last = rows[rows["step"] == rows["step"].max()]["value"].mean()
            st.markdown(f"**{title}** :gray[now {last:.4g}]", help=HELP[term])
            curve_chart(rows, title, log)


def series(records: Sequence[dict[str, Any]], key: str) -> pd.DataFrame:
    """Long table step, value, series ("layer 0" … where there is a value a layer), thinned to be drawn."""
    having = [record for record in records if record.get(key) is not None]
    thin = max(1, len(having) // MOST_POINTS)
    kept = having[::thin] + ([having[-1]] if having and (len(having) - 1) % thin else [])
    rows = [
        (record["step"], value, f"layer {layer}" if isinstance(record[key], list) else key)
        for record in kept
        for layer, value in enumerate(record[key] if isinstance(record[key], list) else [record[key]])
    ]
    return pd.DataFrame(rows, columns=["step", "value", "series"])
