"""What share of the features means something: by verdict and layer, beside both nulls and raw neurons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.atlas_charts import layers_chart, shares_chart
from pages.parts.words import count, percent
from scx_core.atlas import NEURONS, Atlas
from scx_core.atlas.compared import ALL_LAYERS, REAL, compared_shares
from scx_core.atlas.reasons import MEANINGS
from scx_core.figures import table_csv

_DATA = {
    "real": "The features on the cells as they are.",
    "activations shuffled": "A feature's activations dealt to other tokens: what chance gives.",
    "genes shuffled": "Genes' names exchanged: what any list of genes gives.",
    NEURONS: "The raw neurons of the MLPs through the same protocol: the dense baseline.",
}


def verdict_view(atlas: Atlas) -> None:
    """One sentence, charts, table."""
    rows = compared_shares(atlas)
    st.markdown(_sentence(rows))
    left, right = st.columns([5, 4], gap="large")
    layers = [ALL_LAYERS, *range(int(atlas.meta["n_layers"]))]
    with left:
        layer = st.selectbox(
            "Layer", layers, format_func=lambda n: "all layers" if n == ALL_LAYERS else f"layer {n}",
            key="shares layer", width=200,
        )  # fmt: skip
        shown = rows[(rows["layer"] == layer) & (rows["verdict"] != "dead")]
        shares_chart(shown)
    with right:
        st.markdown("### By layer")
        real = rows[(rows["data"] == REAL) & (rows["layer"] >= 0) & (rows["verdict"] != "dead")]
        layers_chart(real)
    _table(rows)
    with st.expander("What the verdicts and the controls are"):
        st.markdown("\n".join(f"- **{name}**: {words}" for name, words in MEANINGS.items()))
        st.markdown("\n".join(f"- **{name}**: {words}" for name, words in _DATA.items()))
        limits = atlas.meta.get("thresholds", {})
        st.caption(
            "Thresholds, chosen on one half of the cells; shares are of the other: "
            + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in limits.items())
        )


def _sentence(rows: pd.DataFrame) -> str:
    """The share that the paper asked about, with its controls."""
    gene = rows[(rows["layer"] == ALL_LAYERS) & (rows["verdict"] == "gene")].set_index("data")
    live = int(gene.loc[REAL, "features"])
    nulls = [float(gene.loc[name, "share"]) for name in gene.index if name.endswith("shuffled")]
    dense = f", {percent(gene.loc[NEURONS, 'share'], 1)} of raw neurons" if NEURONS in gene.index else ""
    return (
        f"**{percent(gene.loc[REAL, 'share'], 1)}** of {count(live, 'live feature')} fire at a few genes. "
        f"At most {percent(max(nulls, default=0.0), 1)} do on shuffled data{dense}."
    )


def _table(rows: pd.DataFrame) -> None:
    wide = rows.pivot_table(
        index=["layer", "verdict"], columns="data", values="share", sort=False, observed=True
    )
    wide = wide[list(dict.fromkeys(rows["data"]))].reset_index()
    wide["layer"] = ["all" if layer == ALL_LAYERS else str(layer) for layer in wide["layer"]]
    config = {
        "layer": st.column_config.TextColumn("Layer"),
        "verdict": st.column_config.TextColumn("Verdict"),
        **{
            name: st.column_config.NumberColumn(name.capitalize(), format="percent", help=_DATA.get(name))
            for name in wide.columns[2:]
        },
    }
    st.dataframe(wide, column_config=config, hide_index=True, height=300)
    st.caption("Shares are of the live features (or neurons); of the dead, of all.")
    st.download_button(
        "Verdict shares (CSV)", table_csv(rows), "verdict_shares.csv", "text/csv",
        icon=":material/download:", type="tertiary", on_click="ignore", key="shares csv",
    )  # fmt: skip
