"""A circuit on the page: the network, its genes, the sentence, the scores in words, the exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.circuits import highlight
from pages.parts.common.charts import gene_chart
from pages.parts.common.words import HELP, count, number, percent, safe
from scx_core.cells import types_with
from scx_core.circuits import Circuit
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.circuits.wording import statistics_sentences
from scx_core.figures import (
    DEFAULT_FORMATS,
    View,
    account,
    circuit_page,
    export_bytes,
    file_name,
    gene_table,
    markers_of,
    mime_type,
    sentence_html,
    simplify,
    table_csv,
)

CHART_GENES = 18
HEIGHT = 640
_BUTTONS = {"graphml": "GraphML", "neuronpedia": "Neuronpedia"}


def network(circuit: Circuit, view: View) -> None:
    """The layered network; it can be zoomed and hovered, and sends for nothing."""
    markers, _ = markers_of(circuit)
    drawing = simplify(circuit, view, markers=markers or frozenset())
    st.iframe(circuit_page(drawing, height=HEIGHT, lit=highlight.boxes(circuit)), height=HEIGHT + 4)


def genes(circuit: Circuit) -> None:
    """The strongest genes as a chart, all of them as a table."""
    table = gene_table(circuit, *markers_of(circuit))
    table["marker_of"] = [", ".join(types_with(gene)) for gene in table["gene"]]
    chart, rows = st.tabs(["Genes", "Table"])
    with chart:
        n = count(circuit.n_cells, "cell")
        st.caption(
            f"The {min(CHART_GENES, len(table))} strongest of {len(table):,} genes, n = {n}. ★ known marker."
        )
        counts = counts_of(circuit)
        if counts is not None:
            st.caption(f"{count_words(counts).capitalize()}.")
        gene_chart(table.head(CHART_GENES))
    with rows:
        _gene_rows(table, circuit)
    st.download_button(
        "Gene table (CSV)",
        table_csv(table),
        file_name(circuit, "csv"),
        "text/csv",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        key="gene table",
    )


def tested(circuit: Circuit) -> None:
    """What the tests allow to be said, beside what the same rule finds where nothing differs."""
    lines = statistics_sentences(circuit)
    if lines:
        st.caption(" ".join(safe(line) for line in lines), help=HELP["tested"])


def _gene_rows(table: pd.DataFrame, circuit: Circuit) -> None:
    config, unit = st.column_config, circuit.target.unit.removeprefix("of ")
    columns = {
        "gene": config.TextColumn("Gene", pinned=True),
        **_measured_columns(table, unit),
        "frozen_attribution": config.NumberColumn(
            f"Frozen attribution, {unit}", format="%.3f", help=HELP["effect"]
        ),
        "direction": config.TextColumn("Tested", help=HELP["tested"]),
        "q": config.NumberColumn("q", format="%.2g", help=HELP["q"]),
        "share_of_cells": config.NumberColumn("Cells", format="percent", help=HELP["share"]),
        "rank": config.NumberColumn("Rank", format="%.0f", help="Place in the cell sentence (mean)."),
        "known_marker": config.TextColumn("Known marker", help="On this type's list; shared: on others too."),
        "marker_of": config.TextColumn(
            "Known in", help="Every type on whose list of known markers the gene is."
        ),
        "sd": config.NumberColumn("sd", format="%.3f", help=f"Standard deviation over the cells, in {unit}."),
        "low": config.NumberColumn("low", format="%.3f", help="Lower end of the 95% interval."),
        "high": config.NumberColumn("high", format="%.3f", help="Upper end of the 95% interval."),
        "n_cells": config.NumberColumn("n", help="Cells whose sentence holds the gene."),
    }
    if circuit.scope == "cell":
        dropped = ("direction", "q", "share_of_cells", "sd", "low", "high", "n_cells")
        columns = {key: column for key, column in columns.items() if key not in dropped}
    st.dataframe(table, column_config=columns, column_order=list(columns), hide_index=True, height=510)


def _measured_columns(table: pd.DataFrame, unit: str) -> dict[str, Any]:
    """Columns of what was measured, each with its interval and the cells behind it."""
    config, out = st.column_config, {}
    words = {
        "knockout_gap": f"Lost without it (neutral gene), {unit}",
        "knockout_text": f"Lost without it (rest moved up), {unit}",
        "estimated_knockout": f"Estimated loss, {unit}",
    }
    for name, title in words.items():
        if name in table:
            out[name] = config.NumberColumn(title, format="%.3f", help=HELP["knockout"])
            if table[f"{name}_low"].notna().any():
                out[f"{name}_low"] = config.NumberColumn("from", format="%.3f", help="95% interval.")
                out[f"{name}_high"] = config.NumberColumn("to", format="%.3f", help="95% interval.")
                out[f"{name}_n"] = config.NumberColumn(
                    "cells", format="%.0f", help="Cells that hold the gene."
                )
    return out


def sentence(circuit: Circuit, min_share: float) -> None:
    """The cell sentence, every gene on the colour of its effect; of a consensus, the genes that are usual."""
    scope = "The cell's genes, highest expression first"
    if not circuit.sentence:
        circuit = circuit._replace(genes=tuple(row for row in circuit.genes if row.share >= min_share))
        scope = f"Genes in the sentence of at least {percent(min_share)} of the cells, by their mean rank"
    st.markdown("### Cell sentence", help=HELP["sentence"])
    st.caption(f"{scope}; the colour is the frozen attribution.")
    markers, _ = markers_of(circuit)
    st.html(sentence_html(circuit, markers=markers or frozenset(), max_genes=200))


def scores(circuit: Circuit) -> None:
    """Where the score comes from, and how far the trace can be believed."""
    target, parts, found = circuit.target, account(circuit), circuit.scores
    st.markdown("### What the score is made of")
    whose = "this cell" if circuit.scope == "cell" else "mean over the cells"
    st.caption(
        f"{safe(target.label)}: {target.value:.2f} {target.unit} ({whose})"
        + (" is the sum of these. Percentages are shares of their absolute sizes." if parts else ".")
    )
    for column, part in zip(st.columns(4), parts, strict=False):
        column.metric(
            part.name.capitalize(),
            percent(part.share),
            f"{part.effect:+.2f} {target.unit}",
            "off",
            delta_arrow="off",
        )
    gap = circuit.accounting.get("max_relative_error")
    st.markdown(
        f"Replacement score **{number(found.get('replacement'), 2)}**, "
        f"completeness **{number(found.get('completeness'), 2)}**, "
        f"influence outside the chosen features **{percent(found.get('unexplored_share'))}**, "
        f"accounting error **{'–' if gap is None else f'{gap:.1e}'}** (relative).",
        help="Replacement: share of the influence that starts at tokens and not at reconstruction errors. "
        "Completeness: share of each node's input that is not error. Accounting: how far the sum of a "
        "node's incoming edges is from the value that it must add up to, at worst.",
    )


def exports(circuit: Circuit, view: View) -> None:
    """One button a format. A file is made when it is asked for, and nothing is traced again."""
    st.markdown("### Export")
    with st.container(horizontal=True):
        for name in DEFAULT_FORMATS:
            st.download_button(
                _BUTTONS.get(name) or name.upper(),
                _maker(circuit, name, view),
                file_name(circuit, name),
                mime_type(name),
                icon=":material/download:",
                on_click="ignore",
                key=f"export {name}",
            )
    st.caption(
        "PNG, SVG and PDF have the size of a column with legend, caption and provenance; HTML opens offline; "
        "GraphML is for Cytoscape or Gephi; JSON holds everything, also for a check by others, and can be "
        "opened above; Neuronpedia is for that site's graph viewer; CSV is the gene table."
    )


def _maker(circuit: Circuit, name: str, view: View) -> Callable[[], bytes]:
    markers, shared = markers_of(circuit)
    return lambda: export_bytes(circuit, name, view=view, markers=markers, shared=shared)
