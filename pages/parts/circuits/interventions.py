"""Interventions on the real model: knock-outs of genes, other rankings, the smallest circuit."""

from __future__ import annotations

import json

import streamlit as st

from pages.parts.circuits.tracing import Request, cell_progress
from pages.parts.common import loaders
from pages.parts.common.forms import config_form
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, progress_in, table
from pages.parts.common.session import Context, kept, last
from pages.parts.common.words import HELP, count, duration, percent, safe
from scx_core.circuits import Circuit
from scx_core.circuits.words.wording import answered_in
from scx_core.evidence import seconds_for, with_knockouts
from scx_core.evidence.rankings.rankings import RankingConfig, TypeRankings, rank_genes_of
from scx_core.evidence.smallest.smallest_circuit import Smallest, SmallestConfig, smallest, smallest_in_cell
from scx_core.figures.drawing.text import plain

AT_ONCE = 5.0  # seconds that nobody is asked for
_KNOCKOUTS: Memory[Circuit] = Memory(24)
_RANKINGS: Memory[TypeRankings] = Memory(16)
_SMALLEST: Memory[Smallest] = Memory(16)
_FOUND, DRAW = "scx_smallest", "draw smallest"

RANKING_VERDICTS = {
    "circuit": "less than the circuit",
    "rival": "more than the circuit",
    "same": "no sure difference",
}
_INTERVAL = "95% bootstrap interval over the cells, or over donors where there are."
_RANKING_COLUMNS: dict[str, Column] = {
    "ranking": ("Genes ranked by", None, "Every ranking is made from the same half of the type's cells."),
    "drop": (
        "Drop",
        "%.2f",
        "Log-odds of the label (whole answer) that the real model loses without these genes, in nats.",
    ),
    "low": ("from", "%.2f", _INTERVAL),
    "high": ("to", "%.2f", _INTERVAL),
    "verdict": (
        "Beside the circuit",
        None,
        "Paired, cell by cell: sign flips, Benjamini-Hochberg, q < 0.05.",
    ),
    "markers": ("Known markers", "%d", "Of the ranking's genes, how many are on the type's list."),
    "genes": ("Genes", None, "Those that were taken out together."),
}
_SETS = {
    "ours": "Searched",
    "greedy": "One by one, strongest first",
    "influence_cut": "Cut at 0.8 of the influence",
    "ours_as_cut": "Searched, for what that cut keeps",
    "random": "Random, same layers and activation",
}
_SET_COLUMNS: dict[str, Column] = {
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


def with_measured(ctx: Context, request: Request, circuit: Circuit) -> Circuit:
    """The circuit whose genes carry measured knock-outs: at once where they take seconds, else when a person
    asks."""
    if request.less is not None or circuit.target.kind in ("feature", "token"):
        return circuit
    tracer = loaders.tracer(ctx)
    key = (*loaders.tracer_key(tracer, named=False), request)
    seconds = seconds_for(tracer, circuit.n_cells)
    if seconds > AT_ONCE and _KNOCKOUTS.peek(key) is None:
        words = f"Measure knock-outs in {count(circuit.n_cells, 'cell')}, about {duration(seconds)}"
        if not st.button(words, help=HELP["knockout"], key="measure knock-outs"):
            return circuit
    place = st.empty()

    def measure() -> Circuit:
        with tracer.lm.lock:
            return with_knockouts(tracer, circuit, progress=cell_progress(place))

    with shown_errors():
        found = _KNOCKOUTS.get(key, measure)
        place.empty()
        return circuit._replace(genes=found.genes, provenance=circuit.provenance | found.provenance)
    return circuit


def other_rankings(ctx: Context, request: Request) -> None:
    """Who else could have named these genes; for the circuit of a type only. Measures when a person asks."""
    if request.row is not None or request.less is not None or request.rows is not None:
        return
    with st.expander("Who else could have said it? Other rankings of the genes, by knock-out"):
        st.caption(
            "The ten strongest genes of each ranking are taken out of the sentences of cells that no ranking "
            "has seen, all ten together, and the real model answers. A circuit says something of its own "
            "where its genes take away more than those of simpler rankings."
        )
        with shown_errors():
            cfg, tracer = RankingConfig(), loaders.tracer(ctx)

            def measure() -> TypeRankings:
                place = st.empty()
                with tracer.lm.lock:
                    tell = progress_in(place, "measuring")
                    found = rank_genes_of(tracer, [request.label], cfg, tell).types[0]
                place.empty()
                return found

            key = (*loaders.tracer_key(tracer, named=False), request.label, cfg)
            words = "Takes about half a minute with 4 layers on two cores."
            found = _RANKINGS.asked_for(key, "Measure", measure, help=words)
            if found is not None:
                _show_rankings(found)


def _show_rankings(found: TypeRankings) -> None:
    st.markdown(
        f"**{safe(found.answer)}**: {found.n} cells measured, {found.n_ranked} others ranked. The model "
        f"gives this answer to {found.called:.0%} of them; log-odds before {found.before.mean:.2f} "
        f"[{found.before.low:.2f}, {found.before.high:.2f}]. {_ahead_words(found)}"
    )
    rows = [
        {
            "ranking": one.words,
            "drop": one.drop.mean,
            "low": one.drop.low,
            "high": one.drop.high,
            "verdict": RANKING_VERDICTS[one.verdict] if one.ahead else "",
            "markers": None if one.markers is None else len(one.markers),
            "genes": ", ".join(one.genes),
        }
        for one in found.rankings
    ]
    table(rows, _RANKING_COLUMNS)


def _ahead_words(found: TypeRankings) -> str:
    """Which other rankings the circuit is ahead of and which not, in words."""
    verdicts = {one.words: one.verdict for one in found.rankings if one.ahead is not None}
    parts = []
    for verdict, words in (
        ("circuit", "The circuit's genes take away more than those by"),
        ("rival", "They take away less than those by"),
        ("same", "There is no sure difference from those by"),
    ):
        names = [name for name, held in verdicts.items() if held == verdict]
        parts += [f"{words} {', '.join(names)}."] if names else []
    return safe(" ".join(parts))


def smallest_circuit(ctx: Context, request: Request) -> None:
    """The fewest features that keep a wanted share of the answer; nothing for a difference. Searches when a
    person asks for it."""
    if request.less is not None or request.rows is not None:
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
            key = (*loaders.tracer_key(loaders.tracer(ctx)), *request[:5], cfg)
            words = "Takes about a minute with 4 layers on two cores."
            found = _SMALLEST.asked_for(key, "Search", lambda: _search(ctx, request, cfg), help=words)
            if found is not None:
                _show_smallest(found)
                st.session_state[_FOUND] = key
                kept(st.toggle, "Draw it in the picture above", DRAW, False)


def smallest_to_draw(ctx: Context, request: Request) -> Smallest | None:
    """The smallest circuit of what is shown, where one was found and a person wants it drawn."""
    key = st.session_state.get(_FOUND)
    if not last(DRAW, False) or request.less is not None or request.rows is not None or key is None:
        return None
    same = key[:-1] == (*loaders.tracer_key(loaders.tracer(ctx)), *request[:5])
    return _SMALLEST.peek(key) if same else None


def what_remains(found: Smallest) -> str:
    """What is left of the target without any feature, and what the features add: said before any of them."""
    remain = "" if found.added.remains is None else f" ({percent(found.added.remains)})"
    return (
        f"Without any feature **{found.logits['empty']:.2f} of {found.logits['full']:.2f} "
        f"{found.whose['unit']}** of {safe(found.target)} remain{remain}; the features add "
        f"{found.added.mean:.2f}{_interval(found.added.low, found.added.high)}."
    )


def _search(ctx: Context, request: Request, cfg: SmallestConfig) -> Smallest:
    tracer, place = loaders.tracer(ctx), st.empty()
    tell = progress_in(place, "searching")
    asked = {"against": request.competitors, "trace": request.trace, "cfg": cfg}
    with tracer.lm.lock:
        tell(0, 1, "measuring the model with and without its features")
        if request.row is not None:
            found = smallest_in_cell(tracer, request.row, label=request.answer, **asked)  # type: ignore[arg-type]
        else:
            found = smallest(tracer, request.label, answer=request.answer, progress=tell, **asked)  # type: ignore[arg-type]
    place.empty()
    return found


def _show_smallest(found: Smallest) -> None:
    ours, added = found.sets["ours"], found.added
    kept = ours.search if ours.unseen is None else ours.unseen
    where = "in this cell" if ours.unseen is None else f"in {len(found.cells['unseen'])} new cells"
    st.markdown(what_remains(found))
    st.caption(answered_in(found.whose["called"], found.whose["of"]))
    whole = "" if ours.whole is None else f", {ours.whole:.2f} of the whole score"
    st.markdown(
        f"**{count(ours.size, 'feature')}** keep **{kept:.2f}**{_interval(ours.low, ours.high)} of what the "
        f"features add {where}{whole}."
    )
    ahead = found.ahead
    st.markdown(
        f"{count(int(ahead['draws'] or 0), 'random set')} of the same size, layers and activation keep "
        f"{ahead['least']:.2f} to {ahead['most']:.2f}: the set found keeps {ahead['mean']:.2f}"
        f"{_interval(ahead['low'], ahead['high'])} more than their mean."
    )
    if found.faint:
        st.warning(f"Faint: {'; '.join(added.faint)}. Shares of so little say little about the type.")
    if not ours.reached:
        st.warning("No set of this circuit's features keeps the wanted share; this is the closest.")
    rows = [
        {"set": words} | found.sets[name]._asdict() for name, words in _SETS.items() if name in found.sets
    ]
    table(rows, {key: column for key, column in _SET_COLUMNS.items() if rows[0][key] is not None})
    st.markdown(f"The features, most needed first: {_feature_names(found)}.")
    st.download_button(
        "Download as JSON",
        json.dumps(found.to_json(), indent=1),
        "smallest-circuit.json",
        "application/json",
        on_click="ignore",
    )


def _interval(low: float | None, high: float | None) -> str:
    """The 95% interval, where there is one."""
    return "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"


def _feature_names(found: Smallest) -> str:
    """Features by layer and number (of one cell with their token), each with its name."""
    words = []
    for node, name in zip(found.nodes, found.names, strict=True):
        at = f" (token {node[1]})" if len(node) == 3 else ""
        words.append(f"L{node[0]}·{node[-1]}{at}" + (f" ({safe(plain(name, 40))})" if name else ""))
    return ", ".join(words)
