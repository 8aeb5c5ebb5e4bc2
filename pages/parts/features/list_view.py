"""Find features: search, filters, sorted pages of a table, or all of one gene; one row opens the feature."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, columns_of, download
from pages.parts.common.session import kept, kept_search, put
from pages.parts.common.words import count, safe
from scx_core.atlas import VERDICTS, Atlas, FindConfig
from scx_core.atlas.judge.protocol import MEANINGS
from scx_core.atlas.tables.atlas import FILE
from scx_core.atlas.tables.find import find_part
from scx_core.atlas.tables.suggest import Suggestion, gene_suggestions, near_names, suggestions
from scx_core.cells.gene_aliases import genes_meant
from scx_core.figures import table_csv
from scx_core.figures.drawing.text import plain

OPENED, NUMBER = "scx_feature", "scx_feature_number"
ROWS, GENE_ROWS = 50, 100
FEW = 10  # cells of a type, below which a name in the list says how many they are
_OFFERED: Memory[list[Suggestion]] = Memory(4)
_GENES: Memory[list[Suggestion]] = Memory(4)
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
_COLUMNS: dict[str, Column] = {
    "name": ("Feature", None, "Layer and number.", 75),
    "label": ("Label", None, "A person's label where there is one, else the automatic one.", 210),
    "verdict": ("Verdict", None, "What the protocol says it fires at.", 95),
    "score": ("Score", "%.0f%%", "The share that the verdict rests on.", 60),
    "stable": ("Stable", "switch", "The other half of the cells gives the same verdict.", 60),
    "reads": ("Reads", "%.1f%%", "Share of the feature's activation that is on this gene.", 65),
    "pushes": ("Pushes", "%.2f", "Weight on the gene's first token in the output; others may begin so.", 65),
    "genes": ("Strongest genes", None, "Where it fires most, strongest first.", 250),
    "cell_type": (
        "Cell type",
        None,
        "Where it fires most per token; with the cells of a rare type.",
        150,
    ),
    "gene_set": ("Gene set", None, "The set that holds most of its activation.", 150),
    "frequency": ("Fires at", "%.2f%%", "Share of all tokens.", 75),
    "maximum": ("Largest", "%.2f", "Its largest activation.", 70),
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
        number.number_input("Page", 1, pages, key=key, help=f"1 to {pages:,}.")
    words.markdown(
        f"**{count(found.total, 'feature')}** of {len(atlas.feature_table):,}."
        + (" Choose a row to open it." if found.total else ""),
        help=f"Found in {1000 * seconds:.0f} ms.",
    )
    if not found.total:
        st.info("No feature is like that. Take a filter back, or search for less of the name.")
        _nearest(cfg.text, suggestions_of(atlas), "find text")
        return
    _download(save, atlas, cfg)
    feature_rows(atlas, found.rows, "features", ("reads", "genes", "cell_type", "gene_set"))


def _filters(atlas: Atlas) -> FindConfig:
    # A row of fixed widths that wraps: shares of a narrow window would cut the words.
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        text = _search(
            st.selectbox, "Search", "find text", suggestions_of(atlas), placeholder="CD20, B cell, L2-513 …",
            width=220,
            help="A gene, also by its CD number: the features that read or write it. Else in labels, "
            "strongest genes, families, cell types (also by their usual name), gene sets and tokens; or "
            "L2-513, or a number. Names are completed while you type; any other text is searched for too.",
        )  # fmt: skip
        verdict = _choice("Verdict", "find verdict", (ANY, *VERDICTS), 120)
        layer = _choice("Layer", "find layer", (ANY, *map(str, range(int(atlas.meta["n_layers"])))), 80)
        types = tuple(map(plain, atlas.meta.get("types", ())))
        cell_type = _choice("Cell type", "find type", (ANY, *types), 150)
        sort = _choice("Largest first", "find sort", tuple(_SORTS), 150, _SORTS)
        stable = kept(st.toggle, "Stable", "find stable", False)
    return FindConfig(
        text=text.strip(),
        verdict="all" if verdict == ANY else verdict,
        layer=None if layer == ANY else int(layer),
        cell_type="" if cell_type == ANY else cell_type,
        stable=stable,
        sort=sort,
        limit=0,
    )


def _search(
    widget: Callable[..., str | None], label: str, name: str, offered: Sequence[Suggestion], **more: Any
) -> str:
    """A field that completes the names that are offered, and takes any other text."""
    words = {one.text: one.words for one in offered}
    return kept_search(widget, label, name, list(words), format_func=lambda one: words.get(one, one), **more)


def suggestions_of(atlas: Atlas) -> list[Suggestion]:
    """What the search of an atlas completes, collected once."""
    if atlas.folder is None:
        return suggestions(atlas)
    key = (str(atlas.folder), (atlas.folder / FILE).stat().st_mtime_ns)
    return _OFFERED.get(key, lambda: suggestions(atlas))


def _nearest(text: str, offered: Sequence[Suggestion], name: str) -> None:
    """Buttons with the names that a text may be a slip of."""
    near = near_names(text, offered) if text else []
    if near:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("Did you mean", width="content")
            for one in near:
                st.button(safe(one), key=f"near {name} {one}", on_click=put, args=(name, one))


def _choice(
    label: str, name: str, options: tuple[str, ...], width: int, words: dict[str, str] | None = None
) -> str:
    meanings = "  \n".join(f"**{name}**: {meaning}" for name, meaning in MEANINGS.items())
    return kept(
        st.selectbox, label, name, options[0], options, width=width,
        format_func=lambda one: (words or {}).get(one, one),
        help=meanings if label == "Verdict" else None,
    )  # fmt: skip


def cells_of(atlas: Atlas, of: str) -> dict[str, int]:
    """Cells of the atlas by type or donor (`of`: "types", "donors"); empty where it was made without."""
    return dict(zip(atlas.meta.get(of, []), atlas.meta.get(f"cells_of_{of}", []), strict=False))


def _of_few(label: str, cells: Mapping[str, int]) -> str:
    """A type's name, with its cells where they are so few that it may stand first by chance."""
    return f"{label} ({count(cells[label], 'cell')})" if cells.get(label, FEW) < FEW else label


def feature_rows(atlas: Atlas, rows: pd.DataFrame, key: str, extra: tuple[str, ...]) -> None:
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
    cells = cells_of(atlas, "types")
    shown["cell_type"] = [_of_few(label, cells) for label in shown["cell_type"]]
    config = columns_of({name: _COLUMNS[name] for name in names})
    config["name"] = st.column_config.TextColumn("Feature", help="Layer and number.", width=75, pinned=True)
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


def _download(place: st.delta_generator.DeltaGenerator, atlas: Atlas, cfg: FindConfig) -> None:
    """All that were found, made when it is asked for."""
    download(
        "All of these (CSV)", lambda: features_csv(find_part(atlas, cfg, 0, 0).rows), "features.csv",
        place=place, key="features csv",
    )  # fmt: skip


def features_csv(rows: pd.DataFrame) -> bytes:
    """Features as CSV."""
    texts = rows.select_dtypes(exclude=["number", "bool"]).columns
    return table_csv(rows.astype(dict.fromkeys(texts, object)))


def gene_view(atlas: Atlas) -> None:
    """A search field, and the features of the gene, the strongest readers first."""
    place, _ = st.columns([2, 5])
    offered = _GENES.get(atlas.genes, lambda: gene_suggestions(atlas.genes))
    symbol = _search(
        place.selectbox, "Gene", "gene of features", offered, placeholder="CD79A, CD20 …",
        help="Features that fire at it, and features that raise its first token in the output.",
    )  # fmt: skip
    if not symbol:
        st.info("Type a gene's symbol, or a name that it also goes by.")
        return
    with shown_errors():
        meant = genes_meant(symbol, atlas.genes) or (symbol,)
        if len(meant) > 1:
            with place:
                symbol = kept(st.selectbox, "Which of its genes", f"gene of {meant}", meant[0], meant)
        else:
            symbol = meant[0]
        if symbol.upper() not in atlas.genes:
            _nearest(symbol, offered, "gene of features")
        found = atlas.gene(symbol)
        reads, pushes = int(found["reads"].notna().sum()), int(found["pushes"].notna().sum())
        more = f" The strongest {GENE_ROWS} are shown." if len(found) > GENE_ROWS else ""
        st.markdown(
            f"**{safe(symbol.upper())}** has {count(len(found), 'feature')}, as in the search: it is "
            f"among the strongest genes of {count(reads, 'feature')}; {count(pushes, 'feature')} push its "
            f"first token.{more}"
        )
        if found.empty:
            return
        feature_rows(atlas, found.head(GENE_ROWS), "gene rows", ("reads", "pushes", "genes", "cell_type"))
        csv = features_csv(found)
        download("Features of the gene (CSV)", csv, "gene_features.csv", key="gene csv")
