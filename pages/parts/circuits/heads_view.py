"""Which attention heads carried an edge of one cell's circuit: pick one of the strongest, see its heads."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.naming import source_of
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.circuits import Circuit
from scx_core.circuits.head_tables import EdgeHeads, circuit_edge_heads, strongest_edges
from scx_core.figures.drawing.text import plain
from scx_core.figures.words import feature_title

EDGES, HEADS = 30, 8
_FOUND: Memory[EdgeHeads] = Memory(64)
_COLUMNS = {
    "name": ("Head", None, "Layer and number."),
    "last": ("Last", "%+.3f", "Over all paths that pass this head last, through however many others before."),
    "contribution": ("Alone", "%+.3f", "Over paths that pass no other head."),
    "attention": (
        "Attention",
        "percent",
        "The weight with which it looks from the target at the source.",
    ),
    "rank": ("Rank", "%d", "Place of the source among all tokens that the head looks at from there."),
    "looks_at": ("Looks at", None, "The tokens that the head looks at most, by gene."),
}


def edge_heads(ctx: Context, circuit: Circuit) -> None:
    """The expander; nothing for a consensus, whose nodes have no positions. Computes when one has chosen."""
    if circuit.scope != "cell":
        return
    with st.expander("Attention heads of an edge"):
        edges = strongest_edges(circuit, EDGES)
        if not edges:
            st.caption("No edge of this circuit leads from one token to another.")
            return
        names = _names(circuit)
        edge = st.selectbox(
            "Edge",
            edges,
            index=None,
            format_func=lambda edge: f"{names[edge[0]]} → {names[edge[1]]}",
            placeholder="The strongest edges between two tokens, strongest first",
            key="edge of heads",
        )
        if edge is not None:
            with shown_errors():
                _show(_split(ctx, circuit, edge), circuit)


def _split(ctx: Context, circuit: Circuit, edge: tuple[str, str]) -> EdgeHeads:
    tracer = loaders.tracer(ctx)

    def split() -> EdgeHeads:
        with loaders.MODEL_LOCK:
            return circuit_edge_heads(tracer, circuit, [edge], HEADS)[0]

    what = (circuit.token_ids, repr(circuit.target), edge, source_of(tracer))
    return _FOUND.get((tracer.lm.fingerprint, tracer.transcoders.fingerprint, *what), split)


def _show(found: EdgeHeads, circuit: Circuit) -> None:
    unit = circuit.target.unit if found.target == "target" else "of pre-activation"
    st.markdown(
        f"**{found.weight:+.3f}** {safe(unit)}: **{found.direct:+.3f}** through no head, "
        f"**{found.one_head:+.3f}** through one, **{found.more:+.3f}** through two and more."
    )
    table = found.frame()
    table.insert(0, "name", [f"{part.layer}.{part.head}" for part in found.heads])
    table["looks_at"] = [plain(text) for text in table["looks_at"]]
    config = {
        key: st.column_config.NumberColumn(label, format=form, help=words)
        if form
        else st.column_config.TextColumn(label, help=words)
        for key, (label, form, words) in _COLUMNS.items()
    }
    st.dataframe(table, column_config=config, column_order=list(_COLUMNS), hide_index=True)


def _names(circuit: Circuit) -> dict[str, str]:
    """What nodes are called in the list: a token by its gene or text, a feature by its name, and where it
    is."""
    out = {"target": plain(circuit.target.answer or circuit.target.label, 60)}
    for node in circuit.nodes:
        about = plain(node.gene or repr((node.token or "").strip()), 24)
        if node.kind == "embedding" and node.name:
            about = plain(node.name, 24)
        if node.kind == "embedding":
            out[node.id] = f"{about} (token {node.position})"
        elif node.kind == "feature":
            name = feature_title(node, limit=24)
            out[node.id] = f"L{node.layer}·{node.feature} {name} (at {about}, token {node.position})"
        elif node.kind == "error":
            out[node.id] = f"error of L{node.layer} {about} (token {node.position})"
    return out
