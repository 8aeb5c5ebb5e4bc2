"""What share of the features means something: by verdict and layer, beside both nulls and raw neurons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.results import Column, columns_of, download, table
from pages.parts.common.words import count, percent
from pages.parts.features.atlas_charts import layers_chart, shares_chart
from scx_core.atlas import NEURONS, Atlas
from scx_core.atlas.judge.excess import (
    ALL_LAYERS,
    EMBEDDING_WORDS,
    ONE_HOT_WORDS,
    RANDOM_WORDS,
    REAL,
    compared_shares,
    excess,
    points,
)
from scx_core.atlas.judge.protocol import AT_GENES, BEYOND_TOKEN, BY_CONTEXT, BY_TOKEN, IN_TYPE, MEANINGS
from scx_core.figures import table_csv

_DATA = {
    "real": "The features on the cells as they are.",
    RANDOM_WORDS: "Directions drawn at random that fire as often as the features do (mean of the draws): "
    "what anything that reads the model's state gives. The rival to beat.",
    EMBEDDING_WORDS: "The tokens' own embeddings as directions, at the same firing rates.",
    ONE_HOT_WORDS: "One unit a token of text, on where it stands: what the spelling of names alone gives.",
    "activations shuffled": "Activations dealt to other tokens: no rival, whatever reads a token beats it.",
    "genes shuffled": "Genes' names exchanged: no rival for the same reason.",
    NEURONS: "The raw neurons of the MLPs through the same protocol: the dense baseline.",
}


def verdict_view(atlas: Atlas) -> None:
    """One sentence, charts, table."""
    rows, held = compared_shares(atlas), excess(atlas)
    st.markdown(_sentence(atlas, held))
    _excess_table(held)
    left, right = st.columns([5, 4], gap="large")
    layers = [ALL_LAYERS, *range(int(atlas.meta["n_layers"]))]
    with left:
        layer = st.selectbox(
            "Layer", layers, format_func=lambda n: "all layers" if n == ALL_LAYERS else f"layer {n}",
            key="shares layer", width=200,
        )  # fmt: skip
        shown = rows[(rows["layer"] == layer) & (rows["verdict"] != "dead")]
        shares_chart(shown[~shown["data"].str.endswith("shuffled")])
    with right:
        st.markdown("### By layer")
        real = rows[(rows["data"] == REAL) & (rows["layer"] >= 0) & (rows["verdict"] != "dead")]
        layers_chart(real)
    wide = rows.pivot_table(
        index=["layer", "verdict"], columns="data", values="share", sort=False, observed=True
    )
    wide = wide[list(dict.fromkeys(rows["data"]))].reset_index()
    wide["layer"] = ["all" if layer == ALL_LAYERS else str(layer) for layer in wide["layer"]]
    columns: dict[str, Column] = {"layer": ("Layer",), "verdict": ("Verdict",)}
    columns |= {name: (name.capitalize(), "percent", _DATA.get(name)) for name in wide.columns[2:]}
    st.dataframe(wide, column_config=columns_of(columns), hide_index=True, height=300)
    st.caption("Shares are of the live features (or neurons); of the dead, of all." + _sampled(atlas))
    download("Verdict shares (CSV)", table_csv(rows), "verdict_shares.csv", key="shares csv")
    with st.expander("What the verdicts and the controls are"):
        st.markdown("\n".join(f"- **{name}**: {words}" for name, words in MEANINGS.items()))
        st.markdown("\n".join(f"- **{name}**: {words}" for name, words in _DATA.items()))
        limits = atlas.meta.get("thresholds", {})
        st.caption(
            "Thresholds, chosen on one half of the cells; shares are of the other: "
            + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in limits.items())
        )


def _sampled(atlas: Atlas) -> str:
    """That not all neurons of a large model were measured."""
    about = atlas.beside[NEURONS].meta if NEURONS in atlas.beside else {}
    n, whole = int(about.get("n_units", 0)), int(about.get("of_units", 0))
    if not n or n >= whole:
        return ""
    return f" Raw neurons: the first {n:,} of the {whole:,} of each layer; all of them would fill the memory."


_MEASURE_WORDS = {
    AT_GENES: "fire at a few genes (five hold most of the activation)",
    BY_TOKEN: "are a table by token (it explains nearly all of their variance)",
    BEYOND_TOKEN: "fire at a few genes, and are more than a table by token",
    BY_CONTEXT: "read other genes than the one they stand at",
    IN_TYPE: "fire in one cell type",
}


def _sentence(atlas: Atlas, held: pd.DataFrame) -> str:
    """The share that the paper asked about, with what random directions reach."""
    cells = count(int(atlas.meta.get("n_cells", 0)), "cell")
    if held.empty:
        return "This atlas was made without random directions: its shares stand beside no rival."
    row = held[(held["layer"] == ALL_LAYERS) & (held["measure"] == AT_GENES)].iloc[0]
    return (
        f"Over {cells}, **{percent(row['share'], 1)}** of {count(int(row['features']), 'live feature')} fire "
        f"at a few genes; of directions drawn at random, at the same firing rates, "
        f"{percent(row['random'], 1)} do. The excess is **{points(row)}** points. The shares move with the "
        "number of cells."
    )


def _excess_table(held: pd.DataFrame) -> None:
    """What is held against baselines: share, random directions, excess with interval, the other rivals."""
    if held.empty:
        return
    rows = held[held["measure"].isin(_MEASURE_WORDS) & (held["layer"] == ALL_LAYERS)]
    interval = [points(row) for _, row in rows.iterrows()]
    others = [name for name in ("embedding", "onehot", NEURONS, "sae") if name in rows]
    shown = rows.assign(
        measure=[_MEASURE_WORDS[str(one)] for one in rows["measure"]], interval=interval
    )[["measure", "share", "random", "interval", *others]]  # fmt: skip
    columns: dict[str, Column] = {
        "measure": ("Features that …", None, None, "large"),
        "share": ("Features", "percent"),
        "random": ("Random directions", "percent", _DATA[RANDOM_WORDS]),
        "interval": (
            "Excess, points [95 %]", None, "Features less the mean of the random draws; Welch's interval.",
        ),
        "embedding": ("Embedding", "percent", _DATA[EMBEDDING_WORDS]),
        "onehot": ("Token one-hot", "percent", _DATA[ONE_HOT_WORDS]),
        NEURONS: ("Raw neurons", "percent", _DATA[NEURONS]),
    }  # fmt: skip
    table(shown, columns, column_order=None)
