"""What a feature is connected to, and the ways from it to circuits."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.circuits import saved_circuit
from pages.parts.circuits.entry import light, light_off
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, table
from pages.parts.common.session import Context, forget, put
from pages.parts.common.words import safe
from pages.parts.features import list_view as feature_list
from scx_core.atlas import Atlas, Feature
from scx_core.atlas.tables.find import labels_of
from scx_core.circuits.connection_tables import TABLES, Connection, FeatureLinks, feature_links
from scx_core.errors import ScxError
from scx_core.figures.drawing.text import plain

_FOUND: Memory[FeatureLinks] = Memory(64)
_TABLES = (
    ("features", "Reads features, directly"),
    ("feeds", "Feeds features, directly"),
    ("features_by_head", "Reads features, through a head"),
    ("feeds_by_head", "Feeds features, through a head"),
    ("genes", "Reads genes' first tokens, directly"),
    ("genes_by_head", "Reads genes' first tokens, through a head"),
)
_COLUMNS: dict[str, Column] = {
    "what": ("", None, None, 75),
    "meaning": ("Label", None, None, 120),
    "weight": ("Weight", "%+.4f", None, 75),
    "head": ("Head", None, None, 50),
}
SHOWN = 8


def feature_links_view(ctx: Context, atlas: Atlas, found: Feature) -> None:
    """Connections from the weights, and circuits. Nothing for units that are no transcoder's."""
    if atlas.meta["source"].get("kind") != "transcoder":
        return
    st.markdown(
        "### Connections",
        help="Products of weights, whatever the cell: every 1/σ and attention weight is left out.",
    )
    layer, feature = int(found.row["layer"]), int(found.row["feature"])
    with shown_errors():
        _circuits(ctx, found, layer, feature)
        links = _links(ctx, layer, feature)
        ends = [link for name in TABLES for link in getattr(links, name) if link.feature is not None]
        labels = labels_of(atlas, {(link.layer or 0, link.feature or 0) for link in ends})
        places = st.columns(2, gap="large")
        shown = [(name, title) for name, title in _TABLES if getattr(links, name)]
        for number, (name, title) in enumerate(shown):
            with places[number % 2]:
                st.markdown(f"**{title}**")
                _link_table(getattr(links, name)[:SHOWN], labels, f"links {name}")


def _links(ctx: Context, layer: int, feature: int) -> FeatureLinks:
    tracer = loaders.tracer(ctx)

    def make() -> FeatureLinks:
        with tracer.lm.lock, st.spinner("Multiplying weights …"):
            return feature_links(tracer, layer, feature)

    return _FOUND.get((*loaders.tracer_key(tracer), layer, feature), make)


def _link_table(links: tuple[Connection, ...], labels: dict[tuple[int, int], str], key: str) -> None:
    """Rows that are features can be chosen, to open them."""
    rows = pd.DataFrame(
        {
            "what": [_name(link) for link in links],
            "meaning": [plain(_meaning(link, labels), 60) for link in links],
            "weight": [link.weight for link in links],
            "head": ["" if link.head is None else f"{link.head_layer}.{link.head}" for link in links],
        }
    )
    order = [name for name in _COLUMNS if name != "head" or rows["head"].any()]
    features = links[0].feature is not None
    event = table(
        rows, _COLUMNS, column_order=order,
        on_select="rerun" if features else "ignore", selection_mode="single-row",
        key=f"{key} {st.session_state.get(feature_list.NUMBER, 0)}",
    )  # fmt: skip
    chosen = event["selection"]["rows"] if features else []
    if chosen:
        link = links[chosen[0]]
        feature_list.open_feature(int(link.layer or 0), int(link.feature or 0))
        st.rerun()


def _name(link: Connection) -> str:
    if link.feature is not None:
        return f"L{link.layer}·{link.feature}"
    return plain(repr((link.text or "").strip())[1:-1], 24)


def _meaning(link: Connection, labels: dict[tuple[int, int], str]) -> str:
    if link.feature is not None:
        return labels.get((link.layer or 0, link.feature), "")
    more = link.n_genes - len(link.genes)
    return ", ".join(link.genes) + (f" and {more} more" if more > 0 else "")


def _circuits(ctx: Context, found: Feature, layer: int, feature: int) -> None:
    """Two ways on: what makes it fire in one cell, and where it stands in a type's circuit."""
    top = found.examples[found.examples["kind"] == "top"]
    left, right, _ = st.columns([2.4, 2.6, 3])
    if left.button(
        "What makes it fire?", icon=":material/hub:", disabled=top.empty, width="stretch",
        help="Traces the feature itself, in the cell where it fires most.",
    ):  # fmt: skip
        example = top.iloc[0]
        _trace(ctx, int(example["row"]), layer, feature, int(example["position"]))
    types = found.types.sort_values("share", ascending=False)
    label = str(types["cell_type"].iloc[0]) if len(types) and types["share"].iloc[0] > 0 else ""
    known = label in loaders.cells(ctx).types
    if right.button(
        f"In the circuit of {plain(label, 30)}" if known else "In a circuit",
        icon=":material/flare:", width="stretch", disabled=not known,
        help=f"The consensus circuit of {safe(label)}, with this feature lit where the circuit uses it.",
    ):  # fmt: skip
        saved_circuit.close()
        forget("against", "scope", "cell")
        put("label", label)
        light(layer, feature)
        st.switch_page("pages/circuits.py")


def _trace(ctx: Context, row: int, layer: int, feature: int, position: int) -> None:
    tracer = loaders.tracer(ctx)
    with tracer.lm.lock, st.spinner("Tracing …"):
        try:
            circuit = tracer.feature(row, layer, feature, position)
        except ScxError as error:  # rounding may close a gate that was open in a batch
            raise ScxError(error.problem, "Open another example's cell on the circuits page.") from error
    light_off()
    saved_circuit.show(f"L{layer}·{feature}", circuit)
    st.switch_page("pages/circuits.py")
