"""Charts of an atlas: verdict shares with their controls, and what one feature fires at."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from pages.parts.common.charts import BLUE, GREY, blue, by_colour, names_axis, rows_of, worded
from scx_core.atlas import VERDICTS
from scx_core.atlas.judge.excess import EMBEDDING_WORDS, ONE_HOT_WORDS, RANDOM_WORDS
from scx_core.figures.drawing.colours import COOL, MUTED, WARM

_ROW = 21  # pixels of a bar
_COLOURS = (
    *("#B23A6F", "#56B4E9", "#0072B2", "#009E73", "#E69F00", "#CC79A7"),
    *("#5B6B7A", "#8C6BB1", "#8D96A0", "#D55E00", "#D5DAE0", "#F1F3F5"),
)
DATA_COLOURS = {
    "real": BLUE,
    RANDOM_WORDS: "#D1495B",
    EMBEDDING_WORDS: "#7CA982",
    ONE_HOT_WORDS: "#A78A5B",
    "neurons": GREY,
}


def shares_chart(rows: pd.DataFrame) -> None:
    """Share of each verdict, real data beside its controls (columns verdict, data, share, features)."""
    names = [name for name in DATA_COLOURS if name in set(rows["data"])]
    names += sorted(set(rows["data"]) - set(names))
    order = [verdict for verdict in VERDICTS if verdict in set(rows["verdict"])]
    colours = [DATA_COLOURS.get(name, MUTED) for name in names]
    chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            y=alt.Y("verdict:N", sort=order, title=None, axis=names_axis(110)),
            yOffset=alt.YOffset("data:N", sort=names),
            x=alt.X("share:Q", title="share of live features", axis=alt.Axis(format=".0%", tickCount=6)),
            color=by_colour("data", names, colours, orient="top", labelLimit=220, columns=1),
            tooltip=[
                "verdict",
                "data",
                alt.Tooltip("share", format=".1%"),
                alt.Tooltip("features", title="live features", format=","),
            ],
        )
    )
    st.altair_chart(chart.properties(height=rows_of(10)), alt="Verdict shares")  # of each bar of a verdict


def layers_chart(rows: pd.DataFrame) -> None:
    """Verdicts by layer, stacked (columns layer, verdict, share)."""
    chart = (
        alt.Chart(rows.assign(order=[VERDICTS.index(verdict) for verdict in rows["verdict"]]))
        .mark_bar()
        .encode(
            x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                "share:Q",
                title="share of live features",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=by_colour("verdict", VERDICTS[:-1], _COLOURS[:-1], orient="right"),
            order=alt.Order("order:Q"),
            tooltip=["layer", "verdict", alt.Tooltip("share", format=".1%")],
        )
    )
    st.altair_chart(chart.properties(height=320), alt="Verdicts by layer")


def share_bars(rows: pd.DataFrame, name: str, title: str, colour: str = "") -> None:
    """One bar a row in the order of the table (columns `name`, share; "n": what stands behind the share)."""
    rows = rows.assign(words=[f"{share:.0%}" for share in rows["share"]])
    x = alt.X("share:Q", title=title, axis=alt.Axis(format="~p", tickCount=4))
    if "n" in rows:
        rows["words"] += ", " + rows["n"]
    # Room for the words behind the longest bar.
    x = x.scale(domain=[0, (1.5 if "n" in rows else 1.15) * float(rows["share"].max())])
    bars = (
        alt.Chart(rows)
        .mark_bar(color=colour or blue(), height=12)
        .encode(
            y=alt.Y(f"{name}:N", sort=None, title=None, axis=names_axis(130)),
            x=x,
            tooltip=[name, alt.Tooltip("share", format=".1%"), *(["n"] if "n" in rows else [])],
        )
    )
    chart = worded(bars, alt.Text("words:N"), size=10).properties(height=rows_of(_ROW))
    st.altair_chart(chart, alt=title)


def weight_bars(rows: pd.DataFrame, title: str) -> None:
    """Signed weights as bars (columns text, weight)."""
    chart = (
        alt.Chart(rows.assign(sign=["raises" if w >= 0 else "lowers" for w in rows["weight"]]))
        .mark_bar(height=12)
        .encode(
            y=alt.Y("text:N", sort=None, title=None, axis=names_axis(130)),
            x=alt.X("weight:Q", title=title, axis=alt.Axis(tickCount=4)),
            color=by_colour("sign", ("raises", "lowers"), (WARM, COOL)),
            tooltip=["text", alt.Tooltip("weight", format=".3f")],
        )
    )
    st.altair_chart(chart.properties(height=rows_of(_ROW)), alt=title)


def activation_chart(rows: pd.DataFrame) -> None:
    """How often it fires how strongly (columns low, high, tokens; the bins double in width)."""
    chart = (
        alt.Chart(rows)
        .mark_bar(color=blue(), strokeWidth=0)
        .encode(
            x=alt.X(
                "low:Q",
                title="activation",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(format="~g"),
            ),
            x2="high:Q",
            y2=alt.datum(0),
            y=alt.Y(
                "tokens:Q",
                title="tokens",
                scale=alt.Scale(zero=True),
                axis=alt.Axis(format="~s", tickMinStep=1),
            ),
            tooltip=[
                alt.Tooltip("low", format=".3g"),
                alt.Tooltip("high", format=".3g"),
                alt.Tooltip("tokens", format=","),
            ],
        )
    )
    st.altair_chart(chart.properties(height=230), alt="Activation histogram")
