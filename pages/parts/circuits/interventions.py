"""Interventions on the real model: knock-outs of genes, other rankings, the smallest circuit."""

from __future__ import annotations

import json

import streamlit as st

from pages.parts.circuits.tracing import Request, asked_of, cell_progress
from pages.parts.common import loaders
from pages.parts.common.forms import config_form
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Column, Memory, table
from pages.parts.common.session import Context, kept, last
from pages.parts.common.tasks import answer, asked, sources
from pages.parts.common.words import HELP, count, percent, safe
from scx_core.circuits import Circuit
from scx_core.circuits.words.whose import training_words
from scx_core.circuits.words.wording import answered_in
from scx_core.evidence import with_knockouts
from scx_core.evidence.rankings.rankings import RankingConfig, TypeRankings
from scx_core.evidence.smallest.smallest_circuit import NOT_COMPARED, Smallest, SmallestConfig
from scx_core.figures.drawing.text import plain
from scx_core.runs import to_dict
from scx_core.tasks import Task
from scx_core.tasks.estimates import knocked_in_page, knockout_seconds, ranking_seconds, smallest_seconds
from scx_core.tasks.makers import read_circuit, read_rankings, read_smallest
from scx_core.tasks.task import tracer_task

_KNOCKOUTS: Memory[Circuit] = Memory(24)
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
    """The circuit whose genes carry measured knock-outs: at once where they take a moment, else when a person
    asks, by a job."""
    if request.less is not None or circuit.target.kind in ("feature", "token"):
        return circuit
    tracer = loaders.tracer(ctx)
    with shown_errors():
        if knocked_in_page(tracer, circuit.n_cells) or not tracer.transcoders.fingerprint:
            found = _measured_now(ctx, request, circuit)
        else:
            n = count(circuit.n_cells, "cell")
            title = f"Knock-outs of {request.label}, {n}"
            task = tracer_task("knockouts", title, sources(ctx), tracer, asked_of(request))
            made = answer(task, read_circuit)
            if made is None:
                task = task._replace(seconds=knockout_seconds(tracer, circuit.n_cells))
                asked(task, f"Measure knock-outs in {n}", help=HELP["knockout"])
                return circuit
            found = made if isinstance(made, Circuit) else circuit
        # names and standing are those of now, whenever it was measured
        return circuit._replace(genes=found.genes, provenance=found.provenance | circuit.provenance)
    return circuit


def _measured_now(ctx: Context, request: Request, circuit: Circuit) -> Circuit:
    tracer, place = loaders.tracer(ctx), st.empty()

    def measure() -> Circuit:
        with tracer.lm.lock:
            return with_knockouts(tracer, circuit, progress=cell_progress(place))

    found = _KNOCKOUTS.get((*loaders.tracer_key(tracer, named=False), request), measure)
    place.empty()
    return found


def other_rankings(ctx: Context, request: Request) -> None:
    """Who else could have named these genes; for the circuit of a type only. A job measures it when a person
    asks."""
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
            what = {"label": request.label, "cfg": to_dict(cfg)}
            title = f"Rankings of the genes of {request.label}"
            task = tracer_task("rankings", title, sources(ctx), tracer, what)
            found = answer(task, read_rankings)
            if found is not None:
                _show_rankings(found)
            else:
                asked(task._replace(seconds=ranking_seconds(tracer, cfg)), "Measure")


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
    """The fewest features that keep a wanted share of the answer; nothing for a difference. A job searches
    when a person asks for it."""
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
            task = _smallest_task(ctx, request, cfg)
            found = answer(task, read_smallest)
            if found is None:
                seconds = smallest_seconds(loaders.tracer(ctx), cfg, request.row is not None)
                asked(task._replace(seconds=seconds), "Search")
                return
            _show_smallest(found)
            st.session_state[_FOUND] = cfg
            kept(st.toggle, "Draw it in the picture above", DRAW, False)


def _smallest_task(ctx: Context, request: Request, cfg: SmallestConfig) -> Task:
    wanted = ("label", "answer", "against", "row", "trace")
    what = {name: value for name, value in asked_of(request).items() if name in wanted}
    where = "one cell" if request.row is not None else request.label
    title = f"Smallest circuit of {where}"
    return tracer_task("smallest", title, sources(ctx), loaders.tracer(ctx), what | {"cfg": to_dict(cfg)})


def smallest_to_draw(ctx: Context, request: Request) -> Smallest | None:
    """The smallest circuit of what is shown, where one was found and a person wants it drawn."""
    cfg = st.session_state.get(_FOUND)
    if not last(DRAW, False) or request.less is not None or request.rows is not None or cfg is None:
        return None
    return answer(_smallest_task(ctx, request, cfg), read_smallest)


def what_remains(found: Smallest) -> str:
    """What is left of the target without any feature, and what the features add: said before any of them."""
    remain = "" if found.added.remains is None else f" ({percent(found.added.remains)})"
    return (
        f"Without any feature **{found.logits['empty']:.2f} of {found.logits['full']:.2f} "
        f"{found.whose['unit']}** of {safe(found.target)} remain{remain}; the features add "
        f"{found.added.mean:.2f}{_interval(found.added.low, found.added.high)}."
    )


def _show_smallest(found: Smallest) -> None:
    ours, added = found.sets["ours"], found.added
    kept = ours.search if ours.unseen is None else ours.unseen
    where = "in this cell" if ours.unseen is None else f"in {len(found.cells['unseen'])} new cells"
    st.markdown(what_remains(found))
    given = answered_in(found.whose["called"], found.whose["of"])
    st.caption(" ".join(text for text in (given, training_words(found.provenance)) if text))
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
    if why := found.provenance.get(NOT_COMPARED):
        st.warning(f"Not compared with the influence cut and plain greedy: {safe(str(why))}")
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
