"""One feature in full: verdict, evidence, genes, examples, cell types, ranks, what it writes, labels."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, table
from pages.parts.common.session import last, put
from pages.parts.common.words import count, number, percent, safe
from pages.parts.features import list_view as feature_list
from pages.parts.features.atlas_charts import activation_chart, share_bars, weight_bars
from scx_core.atlas import Atlas, Feature
from scx_core.atlas.judge.protocol import MEANINGS, measures, reason
from scx_core.figures.coloured_text import Shown, examples_html
from scx_core.figures.drawing.text import plain

GENES, PUSHED, SETS = 12, 6, 12
CHART = 300  # pixels: three in a row beside the side bar, two in a narrow window
KINDS = {"top": "Strongest, one a cell", "sample": "At random among all"}
_BADGES = {
    "polysemantic": "orange",
    "rare": "gray",
    "dead": "gray",
    "prompt": "gray",
    "spelling": "violet",
    "token": "gray",
}


def feature_heading(atlas: Atlas, found: Feature, label: str) -> None:
    """Name, label, verdict; back, and the neighbours by number."""
    row = found.row
    layer, feature = int(row["layer"]), int(row["feature"])
    title, buttons = st.columns([3, 1.2], vertical_alignment="center")
    verdict = str(row["verdict"])
    badge = f":{_BADGES.get(verdict, 'green')}-badge[{verdict}]"
    title.markdown(f"### L{layer}·{feature}  {safe(plain(label, 120))} {badge}")
    row_of = buttons.container(horizontal=True, horizontal_alignment="right")
    for step, icon in ((-1, "chevron_left"), (1, "chevron_right")):
        row_of.button(
            "", icon=f":material/{icon}:", disabled=not 0 <= feature + step < int(atlas.meta["n_units"]),
            on_click=feature_list.open_feature, args=(layer, feature + step), key=f"step {step}",
            help=f"Feature {feature + step}",
        )  # fmt: skip
    row_of.button("Back to the list", icon=":material/arrow_back:", on_click=feature_list.close)
    st.markdown(f"{safe(MEANINGS[verdict])} {safe(reason(row, atlas.meta.get('thresholds', {})))}")


def feature_figures(found: Feature) -> None:
    """How often and how strongly."""
    row = found.row
    figures = (
        ("Fires at", percent(row["frequency"], 2 if row["frequency"] < 0.1 else 0), "of all tokens"),
        ("In cells", f"{int(row['cells']):,}", "in which it fires at least once"),
        ("Largest activation", number(row["maximum"], 2), f"mean where it fires {row['mean']:.2f}"),
        (
            "Half of it is on",
            count(row["n_half"], "gene") if row["n_half"] > 0 else "–",
            "the strongest ones",
        ),
        ("Other half of the cells", "same verdict" if row["stable"] else "another verdict", "stable or not"),
    )
    with st.container(horizontal=True):
        for name, value, below in figures:
            st.metric(name, value, below, "off", delta_arrow="off", width=180)


def evidence(atlas: Atlas, found: Feature) -> None:
    """Every figure of the protocol beside its threshold."""
    rows = [
        one._asdict() | {"what": plain(f"{one.name}: {one.words}" if one.name else one.words)}
        for one in measures(found.row, atlas.meta.get("thresholds", {}))
    ]
    columns: dict[str, Column] = {
        "verdict": ("Verdict",),
        "value": ("Here", "percent"),
        "threshold": ("Threshold", "percent"),
        "met": ("Met", "switch"),
        "what": ("Share that …", None, None, "large"),
    }
    with st.expander("The evidence behind the verdict"):
        st.caption("Asked from top to bottom; the first that is met is the verdict.")
        table(rows, columns)


def genes_and_examples(found: Feature) -> None:
    """Left where it fires, right in which sentences."""
    left, right = st.columns([2, 5], gap="large")
    with left:
        st.markdown("### Genes", help="Share of the feature's activation that is on the tokens of each gene.")
        _bars(found.genes.head(GENES), "gene", "share of its activation", "It fires at no gene.")
        st.markdown("### Families", help="Genes with a common stem.")
        _bars(found.families.head(5), "family", "share of its activation", "At no family of genes.")
    with right:
        st.markdown(
            "### Examples", help="Sentences around the tokens where it fires; the colour is its activation."
        )
        kind = st.segmented_control(
            "Which", list(KINDS), default="top", format_func=KINDS.__getitem__, key="examples kind",
            label_visibility="collapsed", required=True,
        )  # fmt: skip
        rows = found.examples[found.examples["kind"] == kind]
        if rows.empty:
            st.caption("There are none.")
        st.html(examples_html(map(_example, rows.itertuples()), float(found.row["maximum"])))


def _example(row: object) -> Shown:
    gene = row.gene if isinstance(row.gene, str) and row.gene else "no gene"  # type: ignore[attr-defined]
    about = (f"{row.value:.2f}  {gene}", str(row.cell_type or "unlabelled"))  # type: ignore[attr-defined]
    place = row.position - row.start  # type: ignore[attr-defined]
    return Shown(row.texts, row.values, place, about)  # type: ignore[attr-defined]


def where_it_fires(atlas: Atlas, found: Feature) -> None:
    """Cell types, donors, ranks, strengths."""
    places = st.container(horizontal=True)  # wraps in a narrow window
    left, middle, right = (places.container(width=CHART) for _ in range(3))
    with left:
        counted = "Behind each: its cells in the atlas. Of few cells a share is uncertain."
        words = f"Activation per token, as shares over the types: types of unequal size compare. {counted}"
        st.markdown("### Cell types", help=words)
        rows = found.types.sort_values("share", ascending=False)
        nowhere = "It fires in no labelled cell." if atlas.meta.get("types") else "The cells have no labels."
        rows = _with_cells(rows.head(12), "cell_type", atlas, "types")
        _bars(rows, "cell_type", "share, per token", nowhere)
        if len(found.donors):
            st.markdown("### Donors", help=counted)
            rows = _with_cells(found.donors.head(8), "donor", atlas, "donors")
            _bars(rows, "donor", "share, per token", "")
    with middle:
        st.markdown(
            "### Ranks", help="Where in the cell sentence: 1 is the gene with the highest expression."
        )
        ranks = found.ranks.assign(
            ranks=[
                f"{a}" if a == b else f"{a}–{b}"
                for a, b in zip(found.ranks["first"], found.ranks["last"], strict=True)
            ]
        )
        _bars(ranks, "ranks", "share, per token", "It fires at no gene.")
    with right:
        st.markdown("### Activations", help="Tokens by how strongly it fires there.")
        if len(found.histogram):
            activation_chart(found.histogram)
        else:
            st.caption("It never fires.")


def enrichment(found: Feature) -> None:
    """The gene sets that its strongest genes come from, where sets were tested."""
    sets = found.sets
    if sets.empty:
        return
    st.markdown(
        "### Gene sets",
        help="Sets that hold more of its strongest genes than chance gives (Fisher's exact test, upper tail; "
        "q: Benjamini–Hochberg over every test made).",
    )
    shown = sets.sort_values("p", kind="stable").head(SETS)
    columns: dict[str, Column] = {
        "gene_set": ("Set", None, None, 240),
        "shared": ("Shared", "", "Of its strongest genes, in the set.", 60),
        "size": ("Size", "", "Genes of the set among all that could be drawn.", 50),
        "q": ("q", "%.1e", None, 70),
        "share": ("Of its activation", "percent", None, 110),
        "genes": ("Genes", None, None, "medium"),
        "source": ("From", None, None, "medium"),
    }
    table(shown, columns)


def what_it_writes(found: Feature) -> None:
    """The tokens and the answers that it pushes, directly."""
    words = "Weights of its write vector on the output, without the last norm's scale. Direct effects only."
    left, right = st.columns(2, gap="large")
    for place, kind, title in ((left, "token", "Writes tokens"), (right, "answer", "Pushes answers")):
        rows = found.writes[found.writes["kind"] == kind].sort_values("weight", ascending=False)
        ends = pd.concat([rows.head(PUSHED), rows.tail(PUSHED)]).drop_duplicates("text")
        with place:
            st.markdown(f"### {title}", help=words)
            weight_bars(ends.assign(text=[plain(repr(text)[1:-1], 40) for text in ends["text"]]), "weight")


def _with_cells(rows: pd.DataFrame, name: str, atlas: Atlas, of: str) -> pd.DataFrame:
    """With the number of cells behind each type or donor (column "n"), where the atlas says it."""
    cells = feature_list.cells_of(atlas, of)
    if any(one not in cells for one in rows[name]):
        return rows
    return rows.assign(n=[count(cells[one], "cell") for one in rows[name]])


def _bars(rows: pd.DataFrame, name: str, title: str, without: str) -> None:
    if rows.empty or not rows["share"].sum():
        st.caption(without)
        return
    rows = rows[rows["share"] > 0]
    columns = [name, "share", *(["n"] if "n" in rows else [])]
    share_bars(rows.assign(**{name: [plain(value, 60) for value in rows[name]]})[columns], name, title)


def feature_label(atlas: Atlas, found: Feature, label: str) -> None:
    """The form, and who gave which label when."""
    layer, feature = int(found.row["layer"]), int(found.row["feature"])
    st.markdown("### Label", help="Yours wins over the automatic one, here, in circuits and in exports.")
    with st.form(f"label {layer} {feature} {len(found.labels)}", border=False):
        text, who, go = st.columns([4, 1.6, 1], vertical_alignment="bottom")
        typed = text.text_input("Label", value=label, max_chars=200, help="Empty: back to the automatic one.")
        author = who.text_input("Your name", value=last("label author", ""), placeholder="initials will do")
        kept = go.form_submit_button("Keep it", type="primary", width="stretch")
        if kept and typed == label:
            st.caption("This is its label already: nothing was changed.")
        elif kept:
            with shown_errors():
                atlas.give_label(layer, feature, typed, author)
                put("label author", author)
                st.rerun()
    automatic = str(found.row["label"])
    history = [
        f"{safe(one.time.replace('T', ' ')[:16])} UTC, {safe(one.author)}: "
        + (f"**{safe(one.label)}**" if one.label else "taken back")
        for one in reversed(found.labels)
    ]
    st.caption("  \n".join([*history, f"Automatic: {safe(automatic)}"]))
