"""Another set beside the one in use: which features are found again in it, and what chance finds."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.in_use import set_name, sets
from pages.parts.common.results import Column, columns_of, download, table
from pages.parts.common.session import Context, kept
from pages.parts.common.tasks import answer, ask_button, at_work, sources, waits
from pages.parts.common.words import percent, safe
from scx_core.atlas import Match, MatchConfig
from scx_core.errors import ScxError
from scx_core.figures import table_csv
from scx_core.runs import to_dict
from scx_core.tasks import Task
from scx_core.tasks.estimates import match_seconds
from scx_core.tasks.makers_of_features import read_match
from scx_core.tasks.task import table_task
from scx_core.transcoders.sources import absolute

ALL_LAYERS, ROWS = -1, 200
WORDS = {
    "weights": "By weights: the directions that a feature reads and writes.",
    "activation": "By activation: where both fire in the same cells.",
    "genes": "By genes: the genes that a feature prefers.",
}


def match_view(ctx: Context) -> None:
    """The other set, how many cells, the button or its job; then shares and pairs."""
    others = tuple(source for source in sets(ctx) if source != ctx.transcoders)
    if not others:
        st.info("There is no other set for this model. Train one on the page Train, with another seed.")
        return
    which, cells, go = st.columns([2, 1.2, 3.2], vertical_alignment="bottom")
    other = str(kept(which.selectbox, "Other set", "match other", others[0], others, format_func=set_name))
    n = loaders.cells(ctx).n_cells
    first = min(n, MatchConfig().cells)
    taken = int(kept(cells.number_input, "Cells", "match cells", first, min_value=1, max_value=n, step=50))
    task = _task(ctx, other, MatchConfig(cells=taken))
    found = answer(task, read_match)
    if found is None:
        with go:
            if not at_work(task):
                ask_button(task, "Match", type="primary")
        waits(task)
        return
    _shares(found, other)
    _pairs(found)


def _task(ctx: Context, other: str, cfg: MatchConfig) -> Task:
    """Raises ScxError where a set cannot be opened."""
    lm, cells, coders = loaders.language(ctx), loaders.cells(ctx), loaders.transcoders(ctx)
    beside = loaders.transcoders(replace(ctx, transcoders=other))
    for one in (coders, beside):
        if not one.fingerprint:
            raise ScxError(
                f"The set {one.name} was never saved, so no match would be found again.", "Save it."
            )
    asked = {"other": absolute(other), "fingerprint": beside.fingerprint, "cfg": to_dict(cfg)}
    title = f"Features of {set_name(ctx.transcoders)} in {set_name(other)}"
    made = table_task("match", title, sources(ctx), cells, asked, model=lm, transcoders=coders)
    return made._replace(seconds=match_seconds(lm, (coders, beside), cells, cfg.cells))


def _shares(found: Match, other: str) -> None:
    rows = found.shares[found.shares["layer"] == ALL_LAYERS].set_index("way")
    for way, row in rows.iterrows():
        st.markdown(
            f"- {WORDS[str(way)]} **{percent(row['generalises'], 1)}** of {row['features']:,} live features "
            f"are found again in {safe(set_name(other))}, {percent(row['generalises_null'], 1)} by chance."
        )
    columns: dict[str, Column] = {
        "generalises": (
            "Found again", "percent", "Each other's best match, and above what 1 % reach by chance.",
        ),
        "generalises_null": (
            "By chance", "percent", "The same on a null that was not used for the threshold.",
        ),
        "found": ("Above chance", "percent", "The best match is above the threshold, mutual or not."),
        "mutual": ("Mutual", "percent", "Each other's best match."),
        "score": ("Median match", "%.2f"),
        "score_null": ("Median by chance", "%.2f"),
    }  # fmt: skip
    shown = found.shares.assign(
        layer=["all" if layer == ALL_LAYERS else str(layer) for layer in found.shares["layer"]]
    )
    config = columns_of(columns | {"features": ("Live features", "")})
    shown = shown[["way", "layer", "features", *columns]]
    st.dataframe(shown, hide_index=True, height=260, column_config=config)


def _pairs(found: Match) -> None:
    pairs = found.pairs.sort_values("score", ascending=False, kind="stable")
    st.markdown("### Best matches")
    way = st.segmented_control(
        "Way", list(pairs["way"].unique()), key="match way", label_visibility="collapsed"
    )
    shown = (pairs[pairs["way"] == way] if way else pairs).head(ROWS)
    for name in ("feature", "other"):
        places = zip(shown["layer"], shown[name], strict=True)
        shown = shown.assign(**{f"{name} name": [f"L{layer}·{number}" for layer, number in places]})
    columns: dict[str, Column] = {
        "way": ("Way",),
        "feature name": ("Feature",),
        "other name": ("In the other set",),
        "score": ("Match", "%.2f"),
        "mutual": ("Mutual", "switch"),
        "generalises": ("Found again", "switch"),
    }
    table(shown, columns, height=300)
    download("All pairs (CSV)", table_csv(pairs), "matched_features.csv", key="match csv")
