"""Inside one cell's circuit: the attention heads of an edge, and the largest computational paths."""

from __future__ import annotations

import streamlit as st

from pages.parts.circuits.tracing import Request, asked_of
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, table
from pages.parts.common.session import Context
from pages.parts.common.tasks import answer, asked, sources
from pages.parts.common.words import safe
from scx_core.circuits import Circuit
from scx_core.circuits.head_tables import EdgeHeads, circuit_edge_heads, strongest_edges
from scx_core.circuits.paths import Paths
from scx_core.figures.captions import feature_title
from scx_core.figures.drawing.text import plain
from scx_core.runs.files import to_json_text
from scx_core.tasks.estimates import paths_in_page, paths_seconds
from scx_core.tasks.makers import paths_of, read_paths
from scx_core.tasks.task import tracer_task

EDGES, HEADS, PATHS = 30, 8, 40
_HEADS: Memory[EdgeHeads] = Memory(64)
_PATHS: Memory[Paths] = Memory(32)
_HEAD_COLUMNS: dict[str, Column] = {
    "name": ("Head", None, "Layer and number."),
    "last": ("Last", "%+.3f", "Over all paths that pass this head last, through however many others before."),
    "contribution": ("Alone", "%+.3f", "Over paths that pass no other head."),
    "attention": ("Attention", "percent", "The weight with which it looks from the target at the source."),
    "rank": ("Rank", "%d", "Place of the source among all tokens that the head looks at from there."),
    "looks_at": ("Looks at", None, "The tokens that the head looks at most, by gene."),
}
_PATH_COLUMNS: dict[str, Column] = {
    "contribution": ("Contribution, logits", "%+.4f", None, "small"),
    "path": ("Path", None, None, "large"),
}
_PATH_PARTS = (
    ("tokens", "end at tokens"),
    ("open", "were cut by the number of steps"),
    ("pruned", "were left out as too small"),
    ("error", "is transcoder error"),
    ("bias", "is bias"),
)


def edge_heads(ctx: Context, circuit: Circuit) -> None:
    """The expander; nothing for a consensus, whose nodes have no positions. Computes when one has chosen."""
    if circuit.scope != "cell":
        return
    with st.expander("Attention heads of an edge"):
        edges = strongest_edges(circuit, EDGES)
        if not edges:
            st.caption("No edge of this circuit leads from one token to another.")
            return
        names = node_names(circuit)
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
                found = _heads(ctx, circuit, edge)
                unit = circuit.target.unit if found.target == "target" else "of pre-activation"
                st.markdown(
                    f"**{found.weight:+.3f}** {safe(unit)}: **{found.direct:+.3f}** through no head, "
                    f"**{found.one_head:+.3f}** through one, **{found.more:+.3f}** through two and more."
                )
                rows = found.frame()
                rows.insert(0, "name", [f"{part.layer}.{part.head}" for part in found.heads])
                rows["looks_at"] = [plain(text) for text in rows["looks_at"]]
                table(rows, _HEAD_COLUMNS)


def _heads(ctx: Context, circuit: Circuit, edge: tuple[str, str]) -> EdgeHeads:
    tracer = loaders.tracer(ctx)

    def split() -> EdgeHeads:
        with tracer.lm.lock:
            return circuit_edge_heads(tracer, circuit, [edge], HEADS)[0]

    key = (*loaders.tracer_key(tracer), circuit.token_ids, repr(circuit.target), edge)
    return _HEADS.get(key, split)


def node_names(circuit: Circuit) -> dict[str, str]:
    """What nodes are called in the list: a token by its gene or text, a feature by its name, and where it
    is."""
    out = {"target": plain(circuit.target.answer or circuit.target.label, 60)}
    for node in circuit.nodes:
        about = plain(node.gene or repr((node.token or "").strip()), 24)
        if node.kind == "embedding":
            out[node.id] = f"{plain(node.name, 24) if node.name else about} (token {node.position})"
        elif node.kind == "feature":
            name = feature_title(node, limit=24)
            out[node.id] = f"L{node.layer}·{node.feature} {name} (at {about}, token {node.position})"
        elif node.kind == "error":
            out[node.id] = f"error of L{node.layer} {about} (token {node.position})"
    return out


def paths(ctx: Context, request: Request) -> None:
    """The expander, for one cell: at once where it takes a moment, else by a job that a person asks for."""
    if request.row is None:
        return
    with st.expander("Computational paths"):
        st.caption(
            "Single paths through features and attention heads, the largest first. A circuit adds up "
            "all paths between two nodes; here each stands alone."
        )
        with shown_errors():
            found = _paths(ctx, request)
            if found is not None:
                _show_paths(found)


def _show_paths(found: Paths) -> None:
    account = found.account()
    parts = "; ".join(f"**{getattr(account, name):+.3f}** {words}" for name, words in _PATH_PARTS)
    st.markdown(f"{safe(found.label)}: **{account.value:+.3f}** {safe(found.unit)}, of which {parts}.")
    chains = found.chains()
    rows = [
        {
            "contribution": chain[-1].contribution,
            "path": plain(" ← ".join(step.words for step in chain), 240),
        }
        for chain in chains[:PATHS]
    ]
    table(rows, _PATH_COLUMNS)
    st.caption(f"The largest {len(rows)} of {len(chains)} paths; all of them with `scx paths`.")


def _paths(ctx: Context, request: Request) -> Paths | None:
    """The paths where they are known, or asked for and soon there; None after drawing what starts them."""
    tracer, wanted = loaders.tracer(ctx), ("answer", "against", "row", "trace")
    what = {name: value for name, value in asked_of(request).items() if name in wanted}
    if tracer.transcoders.fingerprint and not paths_in_page(tracer):
        title = f"Paths in the cell {tracer.table.cell_ids[request.row or 0]}"
        task = tracer_task("paths", title, sources(ctx), tracer, what)
        found = answer(task, read_paths)
        if found is None:
            asked(task._replace(seconds=paths_seconds(tracer)), "Follow the paths")
        return found

    def trace() -> Paths:
        with tracer.lm.lock, st.spinner("Following paths …"):
            return paths_of(tracer, what)

    key = (*loaders.tracer_key(tracer), to_json_text(what))
    if not st.toggle("Follow the paths", key=f"paths of {request.row}"):
        return None
    return _PATHS.get(key, trace)
