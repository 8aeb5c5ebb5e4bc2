"""Who else could have named these genes: other rankings of the type, by what the real model loses."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.parts.circuits.tracing import Request
from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import safe
from scx_core.evidence.rankings.rankings import RankingConfig, TypeRankings, rank_genes_of

_FOUND: Memory[TypeRankings] = Memory(16)
_VERDICTS = {
    "circuit": "less than the circuit",
    "rival": "more than the circuit",
    "same": "no sure difference",
}
_COLUMNS = {
    "ranking": ("Genes ranked by", None, "Every ranking is made from the same half of the type's cells."),
    "drop": (
        "Drop",
        "%.2f",
        "Log-odds of the label (whole answer) that the real model loses without these genes, in nats.",
    ),
    "low": ("from", "%.2f", "95% bootstrap interval over the cells, or over donors where there are."),
    "high": ("to", "%.2f", "95% bootstrap interval over the cells, or over donors where there are."),
    "verdict": (
        "Beside the circuit",
        None,
        "Paired, cell by cell: sign flips, Benjamini-Hochberg, q < 0.05.",
    ),
    "markers": ("Known markers", "%d", "Of the ranking's genes, how many are on the type's list."),
    "genes": ("Genes", None, "Those that were taken out together."),
}


def rivals(ctx: Context, request: Request) -> None:
    """The expander; for the circuit of a type only. Measures when a person asks for it."""
    if request.row is not None or request.less is not None:
        return
    with st.expander("Who else could have said it? Other rankings of the genes, by knock-out"):
        st.caption(
            "The ten strongest genes of each ranking are taken out of the sentences of cells that no ranking "
            "has seen, all ten together, and the real model answers. A circuit says something of its own "
            "where its genes take away more than those of simpler rankings."
        )
        with shown_errors():
            cfg = RankingConfig()
            key = _key(ctx, request, cfg)
            asked = st.button("Measure", help="Takes about half a minute with 4 layers on two cores.")
            found = _FOUND.get(key, lambda: _measure(ctx, request, cfg)) if asked else _FOUND.peek(key)
            if found is not None:
                _show(found)


def _key(ctx: Context, request: Request, cfg: RankingConfig) -> tuple[object, ...]:
    tracer = loaders.tracer(ctx)
    fixed = (tracer.table.fingerprint, tracer.table.choices, tracer.lm.fingerprint)
    return (*fixed, tracer.transcoders.fingerprint, request.label, cfg)


def _measure(ctx: Context, request: Request, cfg: RankingConfig) -> TypeRankings:
    tracer, place = loaders.tracer(ctx), st.empty()

    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(min(1.0, done / max(1, total)), text=safe(message or "measuring"))

    with loaders.MODEL_LOCK:
        found = rank_genes_of(tracer, [request.label], cfg, tell).types[0]
    place.empty()
    return found


def _show(found: TypeRankings) -> None:
    st.markdown(
        f"**{safe(found.answer)}**: {found.n} cells measured, {found.n_ranked} others ranked. The model "
        f"gives this answer to {found.called:.0%} of them; log-odds before {found.before.mean:.2f} "
        f"[{found.before.low:.2f}, {found.before.high:.2f}]. {_sentence(found)}"
    )
    rows = [
        {
            "ranking": one.words,
            "drop": one.drop.mean,
            "low": one.drop.low,
            "high": one.drop.high,
            "verdict": _VERDICTS[one.verdict] if one.ahead else "",
            "markers": None if one.markers is None else len(one.markers),
            "genes": ", ".join(one.genes),
        }
        for one in found.rankings
    ]
    config = {
        key: st.column_config.NumberColumn(label, format=form, help=words)
        if form
        else st.column_config.TextColumn(label, help=words)
        for key, (label, form, words) in _COLUMNS.items()
    }
    st.dataframe(pd.DataFrame(rows), column_config=config, column_order=list(_COLUMNS), hide_index=True)


def _sentence(found: TypeRankings) -> str:
    """Which rivals the circuit is ahead of and which not, in words."""
    said = {one.words: one.verdict for one in found.rankings if one.ahead is not None}
    parts = []
    for verdict, words in (
        ("circuit", "The circuit's genes take away more than those by"),
        ("rival", "They take away less than those by"),
        ("same", "There is no sure difference from those by"),
    ):
        names = [name for name, held in said.items() if held == verdict]
        parts += [f"{words} {', '.join(names)}."] if names else []
    return safe(" ".join(parts))
