"""The largest computational paths of one cell: from the answer down to genes, with what they leave over."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.circuits.tracing import Request
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.naming import source_of
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.attribution.endpoints import parse_ref
from scx_core.circuits.paths import PathConfig, Paths, trace_paths
from scx_core.circuits.traced_prompt import prompt_of_row
from scx_core.figures.drawing.text import plain

SHOWN = 40
_FOUND: Memory[Paths] = Memory(32)
_PARTS = (
    ("tokens", "end at tokens"),
    ("open", "were cut by the number of steps"),
    ("pruned", "were left out as too small"),
    ("error", "is transcoder error"),
    ("bias", "is bias"),
)


def paths(ctx: Context, request: Request) -> None:
    """The expander, for one cell. Computes when a person opens it by the switch inside."""
    if request.row is None:
        return
    with st.expander("Computational paths"):
        st.caption(
            "Single paths through features and attention heads, the largest first. A circuit adds up "
            "all paths between two nodes; here each stands alone."
        )
        if st.toggle("Follow the paths", key=f"paths of {request.row}"):
            with shown_errors():
                _show(_traced(ctx, request))


def _traced(ctx: Context, request: Request) -> Paths:
    tracer = loaders.tracer(ctx)
    against = [request.against] if request.against else None

    def trace() -> Paths:
        with loaders.MODEL_LOCK, st.spinner("Following paths …"):
            prompt = prompt_of_row(tracer, request.row or 0, request.answer, against, request.trace)
            return trace_paths(prompt, parse_ref("target", prompt.frozen), PathConfig())

    fixed = (tracer.table.fingerprint, tracer.lm.fingerprint, tracer.transcoders.fingerprint)
    what = (request.row, request.answer, request.against, request.trace.target, request.trace.token)
    return _FOUND.get((*fixed, *what, source_of(tracer)), trace)


def _show(found: Paths) -> None:
    account = found.account()
    parts = "; ".join(f"**{getattr(account, name):+.3f}** {words}" for name, words in _PARTS)
    st.markdown(f"{safe(found.label)}: **{account.value:+.3f}** {safe(found.unit)}, of which {parts}.")
    chains = found.chains()
    table = pd.DataFrame(
        {
            "contribution": [chain[-1].contribution for chain in chains[:SHOWN]],
            "path": [plain(" ← ".join(step.words for step in chain), 240) for chain in chains[:SHOWN]],
        }
    )
    number = st.column_config.NumberColumn("Contribution, logits", format="%+.4f", width="small")
    st.dataframe(
        table,
        column_config={"contribution": number, "path": st.column_config.TextColumn("Path", width="large")},
        hide_index=True,
    )
    st.caption(f"The largest {len(table)} of {len(chains)} paths; all of them with `scx paths`.")
