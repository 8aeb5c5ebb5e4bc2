"""One gene: all features that read it or write it."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import kept_widgets as kept
from pages.parts.common.messages import shown_errors
from pages.parts.common.words import count, safe
from pages.parts.features.list_view import feature_rows
from scx_core.atlas import Atlas
from scx_core.figures import table_csv

ROWS = 100


def gene_view(atlas: Atlas) -> None:
    """A search field, and the features of the gene, the strongest readers first."""
    place, _ = st.columns([2, 5])
    symbol = kept.keep(
        "gene of features",
        place.text_input(
            "Gene", key=kept.kept("gene of features", ""), placeholder="CD79A",
            help="Features that fire at it, and features that raise its first token in the output.",
        ),
    )  # fmt: skip
    if not symbol.strip():
        st.info("Type a gene's symbol.")
        return
    with shown_errors():
        found = atlas.gene(symbol.strip())
        reads, pushes = int(found["reads"].notna().sum()), int(found["pushes"].notna().sum())
        more = f" The strongest {ROWS} are shown." if len(found) > ROWS else ""
        st.markdown(
            f"**{safe(symbol.strip().upper())}** is among the strongest genes of {count(reads, 'feature')}; "
            f"{count(pushes, 'feature')} push its first token.{more}"
        )
        if found.empty:
            return
        feature_rows(found.head(ROWS), "gene rows", ("reads", "pushes", "genes", "cell_type"))
        texts = found.select_dtypes(exclude=["number", "bool"]).columns
        st.download_button(
            "Features of the gene (CSV)", table_csv(found.astype(dict.fromkeys(texts, object))),
            "gene_features.csv", "text/csv", icon=":material/download:", type="tertiary",
            on_click="ignore", key="gene csv",
        )  # fmt: skip
