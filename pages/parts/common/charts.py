"""Charts: one function each, with axes that carry units, in the colours of the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from scx_core.figures.captions import NOT_TOLD
from scx_core.figures.drawing.colours import COOL, INK, MUTED, ON_DARK, WARM
from scx_core.figures.table import LEADING
from scx_core.statistics.hypothesis_tests import Q

BLUE, GREY = "#2f6f8f", "#b9c0c8"
_ROW = 23
UNTOLD = ("no difference found", NOT_TOLD, "none")  # directions that are drawn grey
_WHOLE = 600  # pixels: a hundred letters, more than the name of any type; longer ones are in the tooltips


def is_dark() -> bool:
    """Whether the page is shown dark now."""
    return st.context.theme.type == "dark"


def ink() -> str:
    """The colour of lines and words on the page."""
    return ON_DARK[INK] if is_dark() else INK


def blue() -> str:
    """The colour of bars that mean no sign."""
    return "#4f9bc0" if is_dark() else BLUE


def rows_of(height: float) -> alt.Step:
    """The height of a chart whose rows are `height` pixels each, axes and legend not counted: two rows are
    two whole rows."""
    return alt.Step(height)


def gene_chart(table: pd.DataFrame) -> None:
    """The leading column of the genes as bars, strongest raise on top, with intervals; a star at markers."""
    by = next((name for name in LEADING if name in table), "frozen_attribution")
    ends = {"low": f"{by}_low", "high": f"{by}_high"} if by != "frozen_attribution" else {}
    table = table.dropna(subset=[by])
    table = table.assign(effect=table[by], **{name: table[column] for name, column in ends.items()})
    if ends:
        table["direction"] = np.where(table["effect"] > 0, "raises", "lowers")
    known = table["known_marker"].str.startswith(("yes", "shared"))
    rows = table.assign(
        name=np.where(known, "★ " + table["gene"], table["gene"]),
        sign=table["direction"],
    )
    signs = _colours_of(table)
    order = rows.sort_values("effect", ascending=False)["name"].tolist()
    y = alt.Y("name:N", sort=order, title=None, axis=names_axis(130))
    bars = (
        alt.Chart(rows)
        .mark_bar(height=13)
        .encode(
            x=alt.X("effect:Q", title=LEADING.get(by, "frozen attribution"), axis=alt.Axis(tickCount=4)),
            y=y,
            color=by_colour("sign", signs, signs.values(), orient="top", columns=2),
            tooltip=[
                alt.Tooltip("gene", title="gene"),
                alt.Tooltip("effect", title=LEADING.get(by, "frozen attribution"), format=".3f"),
                alt.Tooltip("frozen_attribution", title="frozen attribution", format=".3f"),
                alt.Tooltip("direction", title="tested"),
                alt.Tooltip("q", title="q", format=".2g"),
                alt.Tooltip("share_of_cells", title="share of cells", format=".0%"),
                alt.Tooltip("rank", title="rank", format=".0f"),
                alt.Tooltip("known_marker", title="known marker"),
                alt.Tooltip("marker_of", title="known in"),
            ],
        )
    )
    spans = alt.Chart(rows.dropna(subset=["low", "high"])).mark_rule(color=ink(), strokeWidth=1.2)
    layers = alt.layer(bars, spans.encode(x="low:Q", x2="high:Q", y=y))
    st.altair_chart(layers.properties(height=rows_of(_ROW)), alt="Genes")
    if words := grey_words(rows):
        st.caption(words)


def grey_words(rows: pd.DataFrame) -> str:
    """Why bars are grey whose interval leaves 0 out; "" where there are none."""
    if not {"low", "high"} <= set(rows.columns):
        return ""
    n = int((rows["direction"].isin(UNTOLD) & (rows["low"] * rows["high"] > 0)).sum())
    if not n:
        return ""
    return (
        f"Grey: q ≥ {Q:g}, which counts all genes together. Of {n} grey {'bar' if n == 1 else 'bars'} the "
        "own 95% interval, which knows one gene alone, leaves 0 out."
    )


def _colours_of(table: pd.DataFrame) -> dict[str, str]:
    """The directions of a gene table with their colours: grey for what is not told from nothing."""
    words = table.sort_values("effect", ascending=False)[["direction", "effect"]].itertuples(index=False)
    return {
        direction: GREY if direction in UNTOLD else WARM if effect > 0 else COOL
        for direction, effect in words
    }


def counts_chart(counts: pd.Series, unit: str, colours: Mapping[str, str]) -> None:
    """Cells (`unit`: or pools, or profiles) per type as bars with their numbers, each type in its colour."""
    rows = pd.DataFrame({"type": counts.index.astype(str), "cells": counts.to_numpy()})
    y = alt.Y("type:N", sort=None, title=None, axis=names_axis(240))
    x = alt.X("cells:Q", title=unit, axis=alt.Axis(tickCount=6, tickMinStep=1))
    colour = by_colour("type", colours, colours.values())
    bars = alt.Chart(rows).mark_bar(height=14).encode(x=x, y=y, color=colour)
    st.altair_chart(numbered(bars, "cells", ",").properties(height=rows_of(24)), alt=f"{unit} per type")


def histogram(values: np.ndarray, title: str, unit: str = "cells") -> None:
    """How often each value occurs, in bins."""
    chart = (
        alt.Chart(pd.DataFrame({"value": values}))
        .mark_bar(color=blue())
        .encode(
            x=alt.X("value:Q", bin=alt.Bin(maxbins=40), title=title),
            y=alt.Y("count()", title=unit, axis=alt.Axis(tickMinStep=1)),
        )
    )
    st.altair_chart(chart.properties(height=260), alt=title)


def map_chart(points: pd.DataFrame, name: str, colours: Mapping[str, str]) -> None:
    """Cells on the file's own map (columns x, y, type, cell), each type in its colour, others grey."""
    types = sorted(points["type"].unique())
    shown = alt.Scale(domain=types, range=[colours.get(one, GREY) for one in types])
    legend = alt.Legend(labelLimit=220, symbolLimit=40)
    chart = (
        alt.Chart(points)
        .mark_circle(size=16, opacity=0.7)
        .encode(
            x=alt.X("x:Q", title=f"{name} 1", axis=alt.Axis(grid=False)),
            y=alt.Y("y:Q", title=f"{name} 2", axis=alt.Axis(grid=False)),
            color=alt.Color("type:N", title="cell type", scale=shown, legend=legend),
            tooltip=["cell", "type"],
        )
    )
    st.altair_chart(chart.properties(height=380), alt=f"{name} of the cells")


def curve_chart(rows: pd.DataFrame, title: str, log: bool = False) -> None:
    """One line a series over steps (columns step, value, series)."""
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    several = rows["series"].nunique() > 1
    chart = (
        alt.Chart(rows)
        .mark_line(point=len(rows) <= 3)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, format=",d")),
            y=alt.Y(
                "value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, format="~r", grid=not log)
            ),
            color=alt.Color("series:N", title=None, scale=alt.Scale(scheme="viridis"))
            if several
            else alt.value(blue()),
            tooltip=["series", "step", alt.Tooltip("value", format=".4g")],
        )
    )
    st.altair_chart(chart.properties(height=230), alt=title)


def loss_chart(rows: pd.DataFrame) -> None:
    """Losses by what stands in for the MLPs, these beside the paper's (columns what, value, whose)."""
    order = list(dict.fromkeys(rows["what"]))
    chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            y=alt.Y("what:N", sort=order, title=None, axis=names_axis(150)),
            yOffset=alt.YOffset("whose:N", sort=["here", "seed paper"]),
            x=alt.X("value:Q", title="cross-entropy, nats a token", axis=alt.Axis(tickCount=6)),
            color=by_colour("whose", ("here", "seed paper"), (blue(), GREY), orient="top"),
            tooltip=["what", "whose", alt.Tooltip("value", format=".3f")],
        )
    )
    st.altair_chart(chart.properties(height=alt.Step(18, **{"for": "position"})), alt="Losses")


def stand_in_chart(rows: pd.DataFrame) -> None:
    """What may stand in for the MLPs, side by side with 95% intervals (columns name, figure, value, low,
    high; the first name is the transcoders)."""
    names = list(dict.fromkeys(rows["name"]))
    y = alt.Y("name:N", sort=names, title=None, axis=names_axis(215))
    colour = alt.condition(
        alt.FieldEqualPredicate(field="name", equal=names[0]), alt.value(blue()), alt.value(GREY)
    )
    x = alt.X("value:Q", title=None, axis=alt.Axis(tickCount=4, format=".2f"))
    tips = ["name", "figure", *(alt.Tooltip(key, format=".4f") for key in ("value", "low", "high"))]
    base = alt.Chart()
    bars = base.mark_bar(height=12).encode(x=x, y=y, color=colour, tooltip=tips)
    spans = base.mark_rule(color=ink(), strokeWidth=1.2).encode(x="low:Q", x2="high:Q", y=y)
    panel = alt.layer(bars, spans, data=rows).properties(height=_ROW * len(names), width=150)
    figures = list(dict.fromkeys(rows["figure"]))
    column = alt.Column("figure:N", sort=figures, title=None, header=alt.Header(labelFontWeight="bold"))
    chart = panel.facet(column=column).resolve_scale(x="independent")
    st.altair_chart(chart, alt="Stand-ins with and without features", width="content")


def narrow(labels: Sequence[str]) -> bool:
    """Whether a table of these labels can be read in half of a page: few of them, with short names."""
    return len(labels) <= 12 and max(map(len, labels), default=0) <= 28


def confusion_chart(rows: pd.DataFrame, labels: list[str], title: str) -> None:
    """Cells by true and predicted label as a heat map with its numbers (columns true, predicted, cells).

    As wide as its place where that is enough (`narrow`); else as wide as names and numbers need, in a
    container that scrolls (a key that begins with "scrolled").
    """
    fits = narrow(labels)
    shades, full = (("#222b32", "#5fb0d8"), "#14191d") if is_dark() else (("#f4f6f6", BLUE), "white")
    x = alt.X("predicted:N", sort=labels, title="predicted", axis=_slanted(200 if fits else _WHOLE))
    y = alt.Y("true:N", sort=labels, title="label in the data", axis=names_axis(170 if fits else _WHOLE))
    base = alt.Chart(rows, title=title).encode(x=x, y=y, tooltip=["true", "predicted", "cells"])
    squares = base.mark_rect().encode(
        color=alt.Color(
            "cells:Q",
            scale=alt.Scale(range=shades),
            legend=None,
        )
    )
    top = max(1, int(rows["cells"].max()))
    words = (
        base.transform_filter("datum.cells > 0")
        .mark_text()
        .encode(
            text="cells:Q",
            color=alt.condition(f"datum.cells > {0.6 * top}", alt.value(full), alt.value(ink())),
        )
    )
    chart = (squares + words).properties(height=rows_of(30))
    if fits:
        st.altair_chart(chart, alt=title)
    else:
        digits = len(str(top))
        st.altair_chart(chart.properties(width=alt.Step(max(24, 7 * digits + 6))), width="content", alt=title)


def by_colour(field: str, names: Iterable[str], colours: Iterable[str], **legend: Any) -> alt.Color:
    """Each name in its colour; with the options of a legend, or without one."""
    scale = alt.Scale(domain=list(names), range=list(colours))
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(title=None, **legend) if legend else None)


def numbered(bars: alt.Chart, value: str, form: str, **mark: Any) -> alt.LayerChart:
    """Bars with their numbers behind them."""
    return worded(bars, alt.Text(f"{value}:Q", format=form), **mark)


def worded(bars: alt.Chart, text: alt.Text, **mark: Any) -> alt.LayerChart:
    """Bars with words behind them."""
    words = bars.mark_text(align="left", dx=4, **mark)
    return bars + words.encode(text=text, color=alt.value(ON_DARK[MUTED] if is_dark() else MUTED))


def names_axis(limit: int) -> alt.Axis:
    """Names beside a chart: all of them, each at the height of its row."""
    # The axis' title stands beyond the longest name: Vega's theme would set it at 200 pixels at most.
    return alt.Axis(
        labelLimit=limit, ticks=False, labelOverlap=False, labelFlush=False, maxExtent=max(200, limit + 30)
    )


def _slanted(limit: int = 200) -> alt.Axis:
    """Long names under a chart, all of them."""
    return alt.Axis(labelAngle=-40, labelLimit=limit, labelOverlap=False, maxExtent=max(200, limit))
