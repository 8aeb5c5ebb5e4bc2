"""The fewest features that keep a wanted share of the answer under real intervention, beside other sets."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from pages.parts.circuits.tracing import Request
from pages.parts.common import loaders
from pages.parts.common.forms import config_form
from pages.parts.common.messages import shown_errors
from pages.parts.common.naming import source_of
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import count, percent, safe
from scx_core.circuits.wording import answered_in
from scx_core.evidence.smallest.smallest_circuit import Smallest, SmallestConfig, smallest, smallest_in_cell
from scx_core.figures.drawing.text import plain
from scx_core.runs import Progress

_FOUND: Memory[Smallest] = Memory(16)
_SETS = {
    "ours": "Searched",
    "greedy": "One by one, strongest first",
    "influence_cut": "Cut at 0.8 of the influence",
    "ours_as_cut": "Searched, for what that cut keeps",
    "random": "Random, same layers and activation",
}
_COLUMNS = {
    "set": ("Features", None, "How the set was found."),
    "size": ("Size", "%d", "Features (layer and number) that stay as they are."),
    "search": ("Kept here", "%.2f", "Share of what features add, in the cells that the search saw."),
    "unseen": ("Kept in new cells", "%.2f", "The same in cells of the type that it did not see."),
    "low": ("from", "%.2f", "95% bootstrap interval over the new cells."),
    "high": ("to", "%.2f", "95% bootstrap interval over the new cells."),
    "whole": (
        "Of the whole score",
        "%.2f",
        "The score with these features alone over the score with all: what needs no feature counts too.",
    ),
}


def smallest_circuit(ctx: Context, request: Request) -> None:
    """The expander; nothing for a difference. Searches when a person asks for it."""
    if request.less is not None:
        return
    with st.expander("Smallest circuit: how few features are enough?"):
        st.caption(
            "All features but a few are held at their mean over cells of other types, in a real run of the "
            "model. The search looks for the fewest that keep the wanted share of what the features add to "
            "the answer's score."
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
    asked = (request.label, request.answer, request.against, request.row, request.trace, cfg)
    return (*fixed, *asked, source_of(tracer))


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
    ours, added = found.sets["ours"], found.added
    kept = ours.search if ours.unseen is None else ours.unseen
    where = "in this cell" if ours.unseen is None else f"in {len(found.cells['unseen'])} new cells"
    remain = "" if added.remains is None else f" ({percent(added.remains)})"
    unit = found.whose["unit"]
    st.markdown(
        f"Without any feature **{found.logits['empty']:.2f} of {found.logits['full']:.2f} {unit}** of "
        f"{safe(found.target)} remain{remain}; the features add {added.mean:.2f}"
        f"{_span(added.low, added.high)}."
    )
    st.caption(answered_in(found.whose["called"], found.whose["of"]))
    whole = "" if ours.whole is None else f", {ours.whole:.2f} of the whole score"
    st.markdown(
        f"**{count(ours.size, 'feature')}** keep **{kept:.2f}**{_span(ours.low, ours.high)} of what the "
        f"features add {where}{whole}."
    )
    ahead = found.ahead
    st.markdown(
        f"{count(int(ahead['draws'] or 0), 'random set')} of the same size, layers and activation keep "
        f"{ahead['least']:.2f} to {ahead['most']:.2f}: the set found keeps {ahead['mean']:.2f}"
        f"{_span(ahead['low'], ahead['high'])} more than their mean."
    )
    if found.faint:
        st.warning(f"Faint: {'; '.join(added.faint)}. Shares of so little say little about the type.")
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
    st.markdown(f"The features, most needed first: {_names(found)}.")
    st.download_button(
        "Download as JSON",
        json.dumps(found.to_json(), indent=1),
        "smallest-circuit.json",
        "application/json",
        on_click="ignore",
    )


def _span(low: float | None, high: float | None) -> str:
    """The 95% interval, where there is one."""
    return "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"


def _names(found: Smallest) -> str:
    called = [f" ({safe(plain(name, 40))})" if name else "" for name in found.names]
    return ", ".join(f"{_name(node)}{name}" for node, name in zip(found.nodes, called, strict=True))


def _name(node: tuple[int, ...]) -> str:
    at = f" (token {node[1]})" if len(node) == 3 else ""
    return f"L{node[0]}·{node[-1]}{at}"
