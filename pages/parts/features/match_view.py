"""Another set beside the one in use: which features are found again in it, and what chance finds."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import kept_widgets as kept
from pages.parts.common import loaders
from pages.parts.common.in_use import set_name, sets
from pages.parts.common.messages import shown_errors
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import percent, safe
from scx_core.atlas import Match, MatchConfig, Side, match_sets
from scx_core.figures import table_csv

ALL_LAYERS, ROWS = -1, 200
WORDS = {
    "weights": "By weights: the directions that a feature reads and writes.",
    "activation": "By activation: where both fire in the same cells.",
    "genes": "By genes: the genes that a feature prefers.",
}
_FOUND: Memory[Match] = Memory(4)


def match_view(ctx: Context) -> None:
    """The other set, how many cells, the button; then shares and pairs."""
    others = tuple(source for source in sets(ctx) if source != ctx.transcoders)
    if not others:
        st.info("There is no other set for this model. Train one on the page Train, with another seed.")
        return
    which, cells, go, _ = st.columns([2, 1.2, 1.2, 2], vertical_alignment="bottom")
    key = kept.kept("match other", others[0], others)
    other = str(kept.keep("match other", which.selectbox("Other set", others, key=key, format_func=set_name)))
    n = loaders.cells(ctx).n_cells
    number = kept.kept("match cells", min(n, MatchConfig().cells))
    taken = int(kept.keep("match cells", cells.number_input("Cells", 1, n, step=50, key=number)))
    name = (ctx, other, taken)
    if go.button("Match", type="primary", width="stretch"):
        with shown_errors():
            _FOUND.get(name, lambda: _matched(ctx, other, taken, st.empty()))
    found = _FOUND.peek(name)
    if found is not None:
        _shares(found, other)
        _pairs(found)


def _matched(ctx: Context, other: str, cells: int, place: DeltaGenerator) -> Match:
    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(min(1.0, done / max(1, total)), text=f"{safe(message or 'Cells')}: {done} of {total}")

    lm, table = loaders.language(ctx), loaders.cells(ctx)
    sides = [
        Side(lm, loaders.transcoders(replace(ctx, transcoders=source))) for source in (ctx.transcoders, other)
    ]
    with loaders.MODEL_LOCK:
        found = match_sets(*sides, table, cfg=MatchConfig(cells=cells), progress=tell)
    place.empty()
    return found


def _shares(found: Match, other: str) -> None:
    rows = found.shares[found.shares["layer"] == ALL_LAYERS].set_index("way")
    for way, row in rows.iterrows():
        st.markdown(
            f"- {WORDS[str(way)]} **{percent(row['generalises'], 1)}** of {row['features']:,} live features "
            f"are found again in {safe(set_name(other))}, {percent(row['generalises_null'], 1)} by chance."
        )
    share = st.column_config.NumberColumn
    names = {
        "generalises": ("Found again", "Each other's best match, and above what 1 % reach by chance."),
        "generalises_null": ("By chance", "The same on a null that was not used for the threshold."),
        "found": ("Above chance", "The best match is above the threshold, mutual or not."),
        "mutual": ("Mutual", "Each other's best match."),
    }
    config = {name: share(label, format="percent", help=words) for name, (label, words) in names.items()}
    scores = {"score": "Median match", "score_null": "Median by chance"}
    config |= {name: share(label, format="%.2f") for name, label in scores.items()}
    shown = found.shares.assign(
        layer=["all" if layer == ALL_LAYERS else str(layer) for layer in found.shares["layer"]]
    )
    st.dataframe(
        shown[["way", "layer", "features", *config]], hide_index=True, height=260,
        column_config=config | {"features": share("Live features")},
    )  # fmt: skip


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
    columns = {
        "way": st.column_config.TextColumn("Way"),
        "feature name": st.column_config.TextColumn("Feature"),
        "other name": st.column_config.TextColumn("In the other set"),
        "score": st.column_config.NumberColumn("Match", format="%.2f"),
        "mutual": st.column_config.CheckboxColumn("Mutual"),
        "generalises": st.column_config.CheckboxColumn("Found again"),
    }
    st.dataframe(shown[list(columns)], column_config=columns, hide_index=True, height=300)
    st.download_button(
        "All pairs (CSV)", table_csv(pairs), "matched_features.csv", "text/csv",
        icon=":material/download:", type="tertiary", on_click="ignore", key="match csv",
    )  # fmt: skip
