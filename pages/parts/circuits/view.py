"""A circuit on the page: its competitors, steps, genes, sentence, scores in words, exports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pandas as pd
import streamlit as st

from pages.parts.circuits.pictures import edits_of
from pages.parts.common.charts import gene_chart
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, columns_of, download
from pages.parts.common.session import kept, put
from pages.parts.common.words import HELP, count, number, percent, safe
from scx_core.cells import types_with
from scx_core.circuits import Circuit
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.circuits.supernodes import collapse, from_names, propose
from scx_core.circuits.words.whose import (
    accuracy_note,
    forbidden,
    mismatch_note,
    training_note,
    validated_elsewhere,
    validation_note,
)
from scx_core.circuits.words.wording import (
    answer_frequency,
    competitor_sentences,
    donors_tested,
    faint_note,
    other_text_note,
    statistics_sentences,
)
from scx_core.figures import (
    DEFAULT_FORMATS,
    View,
    account,
    export_bytes,
    file_name,
    gene_table,
    markers_of,
    mime_type,
    sentence_html,
    table_csv,
)
from scx_core.figures.captions import driven_by, feature_title
from scx_core.figures.drawing.edits import Edits

CHART_GENES = 18
PAIR = 0.5  # a competitor with this share of the others' probability is offered to be set against alone
_BUTTONS = {"graphml": "GraphML", "neuronpedia": "Neuronpedia", "caption": "Caption"}


def banners(circuit: Circuit) -> None:
    """In red that circuits of this model are not to be read, or that the model does not give the answer; in
    orange that there is next to nothing to explain, another text, or a validation on other cells alone. They
    stand above the picture."""
    for text in (validation_note(circuit) if forbidden(circuit) else "", mismatch_note(circuit)):
        if text:
            st.error(safe(text), icon=":material/report:")
    for text in (faint_note(circuit), other_text_note(circuit), validated_elsewhere(circuit)):
        if text:
            st.warning(safe(text))


def competitors(circuit: Circuit, how_often_too: bool = False) -> None:
    """Who the competitors are and who is left out."""
    lines = [answer_frequency(circuit) if how_often_too else "", *competitor_sentences(circuit.target)]
    if any(lines):
        st.caption(safe(" ".join(filter(None, lines))))


def one_competitor(circuit: Circuit) -> None:
    """A button that sets the answer against the one competitor that holds most of the others' probability."""
    target = circuit.target
    if len(target.against) < 2 or len(target.rival_shares) != len(target.against):
        return
    share, name = max(zip(target.rival_shares, target.against, strict=True))
    if share >= PAIR:
        st.button(
            f"Set against {safe(name)} alone",
            key="useful pair",
            help=f"It holds {share:.0%} of the competitors' probability in these cells.",
            on_click=put,
            args=("against", name),
        )


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
        if over := donors_tested(circuit):
            st.caption(safe(" ".join(over)))
        counts = counts_of(circuit)
        if counts is not None:
            st.caption(f"{count_words(counts).capitalize()}.")
        gene_chart(table.head(CHART_GENES))
    with rows:
        _gene_rows(table, circuit)
    download("Gene table (CSV)", table_csv(table), file_name(circuit, "csv"), key="gene table")


def tested(circuit: Circuit) -> None:
    """What the tests allow to be said, beside what the same rule finds where nothing differs."""
    lines = statistics_sentences(circuit)
    if lines:
        st.caption(" ".join(safe(line) for line in lines), help=HELP["tested"])


def _gene_rows(table: pd.DataFrame, circuit: Circuit) -> None:
    unit = circuit.target.unit.removeprefix("of ")
    columns: dict[str, Column] = {
        **_measured_columns(table, unit),
        "frozen_attribution": (f"Frozen attribution, {unit}", "%.3f", HELP["effect"]),
        "direction": ("Tested", None, HELP["tested"]),
        "q": ("q", "%.2g", HELP["q"]),
        "share_of_cells": ("Cells", "percent", HELP["share"]),
        "rank": ("Rank", "%.0f", "Place in the cell sentence (mean)."),
        "known_marker": ("Known marker", None, "On this type's list; shared: on others too."),
        "marker_of": ("Known in", None, "Every type on whose list of known markers the gene is."),
        "sd": ("sd", "%.3f", f"Standard deviation over the cells, in {unit}."),
        "low": ("low", "%.3f", "Lower end of the 95% interval."),
        "high": ("high", "%.3f", "Upper end of the 95% interval."),
        "n_cells": ("n", "", "Cells whose sentence holds the gene."),
    }
    if circuit.scope == "cell":
        dropped = ("direction", "q", "share_of_cells", "sd", "low", "high", "n_cells")
        columns = {key: column for key, column in columns.items() if key not in dropped}
    config = {"gene": st.column_config.TextColumn("Gene", pinned=True)} | columns_of(columns)
    st.dataframe(table, column_config=config, column_order=list(config), hide_index=True, height=510)


def _measured_columns(table: pd.DataFrame, unit: str) -> dict[str, Column]:
    """Columns of what was measured, each with its interval and the cells behind it."""
    out: dict[str, Column] = {}
    words = {
        "knockout_gap": f"Lost without it (neutral gene), {unit}",
        "knockout_text": f"Lost without it (rest moved up), {unit}",
        "estimated_knockout": f"Estimated loss, {unit}",
    }
    for name, title in words.items():
        if name in table:
            out[name] = (title, "%.3f", HELP["knockout"])
            if table[f"{name}_low"].notna().any():
                out[f"{name}_low"] = ("from", "%.3f", "95% interval.")
                out[f"{name}_high"] = ("to", "%.3f", "95% interval.")
                out[f"{name}_n"] = ("cells", "%.0f", "Cells that hold the gene.")
                out[f"{name}_holders"] = (
                    "over holders",
                    "%.3f",
                    "Mean over the cells that hold the gene alone.",
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
        + (
            " is the sum of these. Percentages are of their absolute sizes, not of the influence."
            if parts
            else "."
        )
    )
    for column, part in zip(st.columns(max(4, len(parts))), parts, strict=False):
        column.metric(
            part.name.capitalize(),
            percent(part.share),
            f"{part.effect:+.2f} {target.unit}",
            "off",
            delta_arrow="off",
        )
    gap = circuit.accounting.get("max_relative_error")
    notes = training_note(circuit), accuracy_note(circuit), validation_note(circuit)
    beside = " ".join(text for text in notes if text)
    st.markdown(
        f"{safe(beside)}  \n"
        f"Replacement score **{number(found.get('replacement'), 2)}**, "
        f"completeness **{number(found.get('completeness'), 2)}**, "
        f"influence outside the chosen features **{percent(found.get('unexplored_share'))}**, "
        f"accounting error **{'–' if gap is None else f'{gap:.1e}'}** (relative).",
        help="Replacement: share of the influence that starts at tokens and not at reconstruction errors. "
        "Completeness: share of each node's input that is not error. Accounting: how far the sum of a "
        "node's incoming edges is from the value that it must add up to, at worst.",
    )


def exports(circuit: Circuit, view: View, pictured: Circuit) -> None:
    """One button a format. A file is made when it is asked for, and nothing is traced again. `pictured`: as
    it is drawn; what was done to its picture until the button is pressed is in every file."""
    st.markdown("### Export")
    with st.container(horizontal=True):
        for name in (*DEFAULT_FORMATS, "caption"):
            download(
                _BUTTONS.get(name) or name.upper(), maker(circuit, name, view, pictured),
                file_name(circuit, name), mime_type(name), key=f"export {name}", kind="secondary",
            )  # fmt: skip
    st.caption(
        "PNG, SVG and PDF have the size of a column with legend, caption and provenance; HTML opens offline; "
        "GraphML is for Cytoscape or Gephi; JSON holds everything, also for a check by others, and can be "
        "opened above; Neuronpedia is for that site's graph viewer; CSV is the gene table; Caption is the "
        "text below the figure. What was hidden, renamed or grouped in the picture is so in the files too."
    )


PICTURES = ("png", "svg", "pdf", "html", "caption")


def maker(circuit: Circuit, name: str, view: View, pictured: Circuit | None = None) -> Callable[[], bytes]:
    """What makes the file of a format, with what was done to the picture of `pictured`."""
    markers, shared = markers_of(circuit)
    edits_now = edits_of(pictured or circuit)
    drawn = pictured if pictured is not None and name in PICTURES else circuit

    def make() -> bytes:
        edits = edits_now()
        shown = collapse(drawn) if name in PICTURES and edits == Edits() else drawn
        return export_bytes(shown, name, view=view, markers=markers, shared=shared, edits=edits)

    return make


_WORDS = (
    "Features of one layer that read the same genes and features and write to the same ones are proposed as "
    "one step. Give features the same name to join them, an empty one to let a feature stand alone."
)


def joined() -> bool:
    """Whether steps are drawn as one box. Above the drawing."""
    words = "Draws each step as one box. What belongs to a step is below the circuit."
    return bool(kept(st.toggle, "Join features that act together", "join steps", False, help=words))


def with_steps(circuit: Circuit, place: st.delta_generator.DeltaGenerator) -> Circuit:
    """The circuit with its steps: the proposal, or what a person made of it in the table in `place`."""
    features = [node for node in circuit.nodes if node.kind == "feature" and node.layer is not None]
    if not features:
        return circuit
    proposed = circuit.supernodes or propose(circuit)
    names = {member: step.name for step in proposed for member in step.members}
    table = pd.DataFrame(
        {
            "id": [node.id for node in features],
            "feature": [f"L{node.layer}·{node.feature}" for node in features],
            "layer": [node.layer for node in features],
            "name": [feature_title(node) for node in features],
            "driven_by": [driven_by(node) for node in features],
            "effect": [node.effect for node in features],
            "step": [names.get(node.id, "") for node in features],
        }
    ).sort_values(["step", "layer"], ascending=[False, True])
    with place.expander(f"Steps: {count(len(proposed), 'group')} of features that act together"):
        st.caption(_WORDS)
        edited = _editor(table)
        with shown_errors():
            chosen = from_names(circuit, dict(zip(edited["id"], edited["step"].fillna(""), strict=True)))
            return circuit._replace(supernodes=chosen)
    return circuit


def _editor(table: pd.DataFrame) -> pd.DataFrame:
    config = st.column_config
    mark = hashlib.sha256("\n".join(table["id"]).encode()).hexdigest()[:12]
    return st.data_editor(
        table,
        key=f"steps {mark}",  # another circuit, another table
        hide_index=True,
        column_order=["feature", "name", "driven_by", "effect", "step"],
        disabled=["feature", "name", "driven_by", "effect"],
        column_config={
            "feature": config.TextColumn("Feature"),
            "name": config.TextColumn("Active at"),
            "driven_by": config.TextColumn("Gene that adds most"),
            "effect": config.NumberColumn("Frozen attribution", format="%.3f"),
            "step": config.TextColumn(
                "Step", max_chars=60, help="The same name joins features of one layer."
            ),
        },
    )
