"""The fewest features that keep a wanted share of the answer under real intervention, beside other sets."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from pages.parts import loaders
from pages.parts.forms import config_form
from pages.parts.memory import Memory
from pages.parts.messages import shown_errors
from pages.parts.session import Context
from pages.parts.tracing import Request
from pages.parts.words import count, safe
from scx_core.circuits.smallest import Smallest, SmallestConfig, smallest, smallest_in_cell
from scx_core.runs import Progress

_FOUND: Memory[Smallest] = Memory(16)
_SETS = {
    "ours": "Searched",
    "greedy": "One by one, strongest first",
    "influence_cut": "Cut at 0.8 of the influence",
    "ours_as_cut": "Searched, for what that cut keeps",
}
_COLUMNS = {
    "set": ("Features", None, "How the set was found."),
    "size": ("Size", "%d", "Features (layer and number) that stay as they are."),
    "search": ("Kept here", "%.2f", "Share of the answer's score in the cells that the search saw."),
    "unseen": ("Kept in new cells", "%.2f", "The same in cells of the type that it did not see."),
    "low": ("from", "%.2f", "95% bootstrap interval over the new cells."),
    "high": ("to", "%.2f", "95% bootstrap interval over the new cells."),
}


def smallest_circuit(ctx: Context, request: Request) -> None:
    """The expander; nothing for a difference. Searches when a person asks for it."""
    if request.less is not None:
        return
    with st.expander("Smallest circuit: how few features are enough?"):
        st.caption(
            "All features but a few are held at their mean over cells of other types, in a real run of the "
            "model. The search looks for the fewest that keep the wanted share of the answer's score."
        )
        names = ("wanted",) if request.row is not None else ("wanted", "search_cells", "unseen_cells")
        with shown_errors():
            cfg = config_form(SmallestConfig(), "smallest", names)
            key = _key(ctx, request, cfg)
            asked = st.button("Search", help="Takes about a minute with 4 layers on two cores.")
            found = _FOUND.get(key, lambda: _search(ctx, request, cfg)) if asked else _FOUND.peek(key)
            if found is not None:
                _show(found)


def _key(ctx: Context, request: Request, cfg: SmallestConfig) -> tuple[object, ...]:
    tracer = loaders.tracer(ctx)
    fixed = (tracer.table.fingerprint, tracer.lm.fingerprint, tracer.transcoders.fingerprint)
    return (*fixed, request.label, request.answer, request.against, request.row, request.trace, cfg)


def _search(ctx: Context, request: Request, cfg: SmallestConfig) -> Smallest:
    tracer, place = loaders.tracer(ctx), st.empty()
    against = [request.against] if request.against else None

    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(min(1.0, done / max(1, total)), text=safe(message or "searching"))

    told: Progress = tell
    with loaders.MODEL_LOCK:
        tell(0, 1, "measuring the model with and without its features")
        if request.row is not None:
            found = smallest_in_cell(
                tracer, request.row, label=request.answer, against=against, trace=request.trace, cfg=cfg
            )
        else:
            found = smallest(
                tracer,
                request.label,
                answer=request.answer,
                against=against,
                trace=request.trace,
                cfg=cfg,
                progress=told,
            )
    place.empty()
    return found


def _show(found: Smallest) -> None:
    ours = found.sets["ours"]
    kept = ours.search if ours.unseen is None else ours.unseen
    where = "in this cell" if ours.unseen is None else f"in {len(found.cells['unseen'])} new cells"
    st.markdown(
        f"**{count(ours.size, 'feature')}** keep **{kept:.2f}** of {safe(found.target)} {where}: "
        f"{found.logits['full']:.2f} logits with all features, {found.logits['empty']:.2f} with none."
    )
    if found.faint:
        st.warning(
            "All features together change this score by little, or by less than it varies from cell to cell: "
            "shares of so little say little about the type."
        )
    if not ours.reached:
        st.warning("No set of this circuit's features keeps the wanted share; this is the closest.")
    rows = [
        {"set": words} | found.sets[name]._asdict() for name, words in _SETS.items() if name in found.sets
    ]
    config = {
        key: st.column_config.NumberColumn(label, format=form, help=words)
        if form
        else st.column_config.TextColumn(label, help=words)
        for key, (label, form, words) in _COLUMNS.items()
    }
    shown = [key for key in _COLUMNS if rows[0][key] is not None]
    st.dataframe(pd.DataFrame(rows), column_config=config, column_order=shown, hide_index=True)
    st.markdown(f"The features, most needed first: {', '.join(map(_name, found.nodes))}.")
    st.download_button(
        "Download as JSON",
        json.dumps(found.to_json(), indent=1),
        "smallest-circuit.json",
        "application/json",
        on_click="ignore",
    )


def _name(node: tuple[int, ...]) -> str:
    at = f" (token {node[1]})" if len(node) == 3 else ""
    return f"L{node[0]}·{node[-1]}{at}"
