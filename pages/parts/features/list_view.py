"""Find features: search, filters, sorted pages of a table; one row opens the feature."""

from __future__ import annotations

import math
import time

import pandas as pd
import streamlit as st

from pages.parts.common import kept_widgets as kept
from pages.parts.common.words import count
from scx_core.atlas import VERDICTS, Atlas, FindConfig
from scx_core.atlas.judge.protocol import MEANINGS
from scx_core.atlas.tables.find import FoundFeatures, find_part
from scx_core.figures import table_csv
from scx_core.figures.drawing.text import plain

OPENED, NUMBER = "scx_feature", "scx_feature_number"
ROWS = 50
ANY = "any"
_SORTS = {
    "score": "Score",
    "mass": "Total activation",
    "frequency": "Frequency",
    "maximum": "Largest activation",
    "top5": "On five genes",
    "type_share": "In one cell type",
    "token_share": "By the token",
    "context_share": "By other genes",
    "layer": "Layer and number",
}
# Words, format of a number, width in pixels, help.
_COLUMNS = {
    "name": ("Feature", None, 75, "Layer and number."),
    "label": ("Label", None, 210, "A person's label where there is one, else the automatic one."),
    "verdict": ("Verdict", None, 95, "What the protocol says it fires at."),
    "score": ("Score", "%.0f%%", 60, "The share that the verdict rests on."),
    "stable": ("Stable", None, 60, "The other half of the cells gives the same verdict."),
    "reads": ("Reads", "%.1f%%", 65, "Share of the feature's activation that is on this gene."),
    "pushes": ("Pushes", "%.2f", 65, "Weight on the gene's first token in the output; others may begin so."),
    "genes": ("Strongest genes", None, 250, "Where it fires most, strongest first."),
    "cell_type": ("Cell type", None, 150, "Where it fires most per token."),
    "gene_set": ("Gene set", None, 150, "The set that holds most of its activation."),
    "frequency": ("Fires at", "%.2f%%", 75, "Share of all tokens."),
    "maximum": ("Largest", "%.2f", 70, "Its largest activation."),
}


def opened() -> tuple[int, int] | None:
    """Layer and number of the feature that is looked at."""
    return st.session_state.get(OPENED)


def open_feature(layer: int, number: int) -> None:
    """Look at a feature from the next run on."""
    st.session_state[OPENED] = (int(layer), int(number))
    st.session_state[NUMBER] = st.session_state.get(NUMBER, 0) + 1  # tables without a chosen row


def close() -> None:
    """Back to the list."""
    st.session_state.pop(OPENED, None)


def feature_list(atlas: Atlas) -> None:
    """Filters, the count, one page of rows."""
    cfg = _filters(atlas)
    words, number, save = st.columns([5, 1.3, 1.6], vertical_alignment="bottom")
    key = f"features page {cfg}"
    began = time.perf_counter()
    found = find_part(atlas, cfg, (int(st.session_state.get(key, 1)) - 1) * ROWS, ROWS)
    seconds = time.perf_counter() - began
    pages = max(1, math.ceil(found.total / ROWS))
    if pages > 1:
        number.number_input(f"Page of {pages:,}", 1, pages, key=key)
    words.markdown(
        f"**{count(found.total, 'feature')}** of {len(atlas.feature_table):,}. Choose a row to open it.",
        help=f"Found in {1000 * seconds:.0f} ms.",
    )
    if not found.total:
        st.info("No feature is like that. Take a filter back, or search for less of the name.")
        return
    _download(save, atlas, cfg)
    feature_rows(found.rows, "features", ("genes", "cell_type", "gene_set"))


def _filters(atlas: Atlas) -> FindConfig:
    # A row of fixed widths that wraps: shares of a narrow window would cut the words.
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        text = kept.keep(
            "find text",
            st.text_input(
                "Search", key=kept.kept("find text", ""), placeholder="CD79A, ribosom, NK …",
                width=235,
                help="In labels, strongest genes, families, cell types, gene sets and tokens; or a number.",
            ),
        )  # fmt: skip
        verdict = _choice("Verdict", "find verdict", (ANY, *VERDICTS), 130)
        layer = _choice("Layer", "find layer", (ANY, *map(str, range(int(atlas.meta["n_layers"])))), 95)
        types = tuple(map(plain, atlas.meta.get("types", ())))
        cell_type = _choice("Cell type", "find type", (ANY, *types), 170)
        sort = _choice("Largest first", "find sort", tuple(_SORTS), 160, _SORTS)
        stable = kept.keep("find stable", st.toggle("Stable", key=kept.kept("find stable", False)))
    return FindConfig(
        text=text.strip(),
        verdict="all" if verdict == ANY else verdict,
        layer=None if layer == ANY else int(layer),
        cell_type="" if cell_type == ANY else cell_type,
        stable=stable,
        sort=sort,
        limit=0,
    )


def _choice(
    label: str, name: str, options: tuple[str, ...], width: int, words: dict[str, str] | None = None
) -> str:
    key = kept.kept(name, options[0], options)
    shown = st.selectbox(
        label, options, key=key, width=width, format_func=lambda one: (words or {}).get(one, one),
        help=None if label != "Verdict" else "  \n".join(f"**{k}**: {v}" for k, v in MEANINGS.items()),
    )  # fmt: skip
    return str(kept.keep(name, shown))


def feature_rows(rows: pd.DataFrame, key: str, extra: tuple[str, ...]) -> None:
    """Features as a table; choosing a row opens it."""
    shown = rows.assign(
        name=[f"L{layer}·{number}" for layer, number in zip(rows["layer"], rows["feature"], strict=True)],
        frequency=100 * rows["frequency"],
        score=100 * rows["score"].clip(upper=1),
    )
    if "reads" in shown:
        shown["reads"] *= 100
    filled = [name for name in extra if name in shown and shown[name].astype(str).str.len().max()]
    names = ["name", "label", "verdict", "score", *filled, "stable", "frequency", "maximum"]
    for name in ("label", "verdict", "genes", "cell_type", "gene_set"):
        shown[name] = [plain("" if pd.isna(value) else value, 120) for value in shown[name]]
    config = {name: _column(name) for name in names}
    event = st.dataframe(
        shown[names], column_config=config, hide_index=True, placeholder="–",
        height=min(560, 38 + 35 * len(shown)),
        on_select="rerun", selection_mode="single-row", key=f"{key} {st.session_state.get(NUMBER, 0)}",
    )  # fmt: skip
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        row = rows.iloc[chosen[0]]
        open_feature(row["layer"], row["feature"])
        st.rerun()


def _column(name: str) -> object:
    label, form, width, words = _COLUMNS[name]
    if name == "stable":
        return st.column_config.CheckboxColumn(label, help=words, width=width)
    if form is None:
        return st.column_config.TextColumn(label, help=words, width=width, pinned=name == "name")
    return st.column_config.NumberColumn(label, format=form, help=words, width=width)


def _download(place: st.delta_generator.DeltaGenerator, atlas: Atlas, cfg: FindConfig) -> None:
    """All that were found, made when it is asked for."""

    def make() -> bytes:
        found: FoundFeatures = find_part(atlas, cfg, 0, 0)
        texts = found.rows.select_dtypes(exclude=["number", "bool"]).columns
        return table_csv(found.rows.astype(dict.fromkeys(texts, object)))

    place.download_button(
        "All of these (CSV)", make, "features.csv", "text/csv", icon=":material/download:",
        type="tertiary", on_click="ignore", key="features csv",
    )  # fmt: skip
