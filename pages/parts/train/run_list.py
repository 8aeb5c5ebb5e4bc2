"""The list of runs, and the one that is shown: curves, processes, stop, resume, duplicate, use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.common import in_use
from pages.parts.common.charts import curve_chart
from pages.parts.common.jobs import KINDS, REFRESH_S, STATES, job_buttons, job_message, jobs, progress_bar
from pages.parts.common.messages import next_step, shown_errors
from pages.parts.common.results import Column, table
from pages.parts.common.session import context, use
from pages.parts.common.words import FORMS, HELP, count, number, percent, safe
from pages.parts.common.words import KINDS as CODERS
from pages.parts.train.kept_view import delete_button, kept_view
from pages.parts.train.new_run import TITLES, duplicate
from scx_core.runs import RunFolder, from_dict, list_runs, read_json
from scx_core.runs.ranks import ranks_of
from scx_core.statistics.intervals import wilson
from scx_core.training.config import TranscoderConfig
from scx_core.validation import Validation, setting, validation_beside, verdict

LOOKED_AT = "scx_run"
# Drawing the curves takes as long as steps of a small model: seldom enough not to hold the training up.
CURVES_S = 10.0

MOST_POINTS = 240
_TRAIN = (
    ("fvu", "FVU", "fvu", True),
    ("l0", "L0, active features a token", "l0", False),
    ("dead", "Dead features, share", "dead", False),
    ("ce_recovered", "CE recovered, all layers replaced", "ce_recovered", False),
)
_MODEL = (
    ("loss", "Loss, nats a token", "ce", False),
    ("answer_loss", "Loss of the answer, nats a token", "ce", False),
    ("accuracy", "Right about cells it does not learn from, share", "watched", False),
)
_RANK_STATES = {"running": "running", "ended": "ended", "failed": "failed", "dead": "gone"}
_RANK_COLUMNS: dict[str, Column] = {
    "process": ("Process", ""),
    "state": ("State",),
    "step": ("Step", "localized"),
    "speed": ("Tokens a second", "localized", "Of all processes together, as this one sees it."),
    "memory": ("Memory, GB", "%.2f"),
    "device": ("Device",),
}


def run_list() -> None:
    """All runs, the newest first; one of them in full; then all else that is kept."""
    st.markdown("### Runs")
    _one_of_them()
    with shown_errors():
        kept_view()


def _one_of_them() -> None:
    runs = {run.name: run for run in jobs()}
    if not runs:
        st.info("There are no runs yet. Start one above: it goes on when this page is closed.")
        return
    run = runs[_chosen(runs)]
    live = run.status().state == "running"
    with st.container(border=True):
        st.fragment(_state, run_every=REFRESH_S if live else None)(run, live)
        st.caption(_about(run))
        with shown_errors():
            _figures(run)
        st.fragment(_curves, run_every=CURVES_S if live else None)(run)


def _chosen(runs: dict[str, RunFolder]) -> str:
    """The run that is looked at: the newest until another is chosen."""
    words = {name: f"{name}: {KINDS[run.kind]}, {run.status().state}" for name, run in runs.items()}
    names = list(runs)
    if st.session_state.get(LOOKED_AT) not in runs:
        st.session_state[LOOKED_AT] = names[0]
    wanted = st.session_state[LOOKED_AT]
    # The browser keeps the words that it showed, "running" too: for other words another widget.
    key = f"run {wanted} {hash(tuple(words.values()))}"
    return st.selectbox(
        "Run", names, index=names.index(wanted), format_func=words.__getitem__,
        key=key, on_change=_look_at, args=(key,),
    )  # fmt: skip


def _look_at(key: str) -> None:
    st.session_state[LOOKED_AT] = st.session_state[key]


def _state(run: RunFolder, was_running: bool) -> None:
    """State and buttons of a run; the whole page is drawn again once it has ended."""
    with shown_errors():
        status = run.status()
        if was_running and status.state != "running":
            st.rerun()
        title, actions = st.columns([1, 1], vertical_alignment="center")
        title.markdown(f"### {safe(run.name)} {STATES[status.state]}")
        with actions.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
            job_buttons(run, status)
            words = "Takes its settings into the form above."
            if run.kind == "train" and st.button("Duplicate", help=words, key=f"copy {run.name}"):
                duplicate(run)
                st.rerun()
            if status.state != "running":
                delete_button(run)
            if status.state == "done":
                _use(run)
        job_message(run, status)
        if status.state == "running":
            progress_bar(status)
        if status.state != "done":
            ranks_table(run)


def _curves(run: RunFolder) -> None:
    with shown_errors():
        curves(run)


def _about(run: RunFolder) -> str:
    """What it is trained on, with what."""
    config = run.config
    parts = [KINDS[run.kind], f"cells: {in_use.cells_name(config['data'])}"]
    if run.kind == "train":
        coder = from_dict(TranscoderConfig, config["transcoder"])
        form = "" if coder.form == "transcoder" else f"{FORMS[coder.form]}, "
        parts += [
            f"model: {in_use.model_name(config['model'])}",
            f"{form}{CODERS[coder.kind]}, {coder.expansion}×, {setting(config['transcoder'])}",
            f"seed {config['train']['seed']}",
        ]
    else:
        recipe = config["recipe"]
        parts.append(
            f"{recipe['layers']} layers × {recipe['width']}, {recipe['readings']:,} cells read, "
            f"seed {recipe['seed']}"
        )
    return safe(", ".join(parts))


def _figures(run: RunFolder) -> None:
    """How good a finished build is, in one line."""
    path = run.path / "metrics.json"
    if run.kind != "build" or not path.exists():
        return
    found = read_json(path)
    first = run.config["presets"].split(",")[0].strip()
    figures, name = found[first], TITLES.get(first, first).lower()
    made = validation_beside(run.path / "transcoders", {})
    st.markdown(
        f"Right about **{percent(figures['label_accuracy_orig'], 1)}** of "
        f"{count(figures.get('n_cells', found['n_held_out']), 'held-out cell')}{_rivals(made)}, "
        f"**{percent(figures['label_accuracy_transcoder'], 1)}** with every MLP replaced "
        f"({name} transcoders: CE recovered {number(figures['ce_recovered'], 4)}, "
        f"KL {number(figures['kl'], 4)}, L0 {number(figures['l0'], 1)}).",
        help=HELP["ce_recovered"],
    )
    if made is not None and made.warnings:
        more = any(caution.sign == "accuracy" for caution in made.warnings)
        then = " Train again with more cells read." if more else ""
        st.markdown(f":orange[:material/warning:] {safe(verdict(made))}{then}")


def _rivals(made: Validation | None) -> str:
    """Interval of the model's accuracy, and what one answer for every cell and logistic regression reach."""
    if made is None or "label_accuracy_orig" not in made.intervals:
        return ""
    low, high = made.intervals["label_accuracy_orig"]
    words = f"95% interval {percent(low)} to {percent(high)}"
    words += f"; one answer for all: {percent(made.confusion.one_answer)}"
    if made.logistic is not None:
        words += f"; logistic regression on the genes: {percent(made.logistic.accuracy)}"
    return f" ({words})"


def _use(run: RunFolder) -> None:
    """Take what was made into use, and say what comes next."""
    made = in_use.trained(run) if run.kind == "train" else in_use.built(run)
    if context().transcoders == made["transcoders"]:
        st.markdown(":green-badge[in use]")
        next_step("pages/validate.py", "Validate", "content")
        return
    label = "Use these transcoders" if run.kind == "train" else "Use this model"
    if st.button(label, type="primary", key=f"use {run.name}"):
        use(**made)
        st.rerun()


def ranks_table(run: RunFolder) -> None:
    """How far each process of a training is, where several share it; nothing for one process."""
    ranks = ranks_of(run)
    if not ranks:
        return
    rows = [
        {
            "process": rank.rank,
            "state": _RANK_STATES.get(rank.state, rank.state),
            "step": rank.step,
            "speed": rank.tokens_per_second,
            "memory": rank.memory / 1e9,
            "device": rank.device,
        }
        for rank in ranks
    ]
    with st.expander(f"{len(ranks)} processes", expanded=True):
        table(rows, _RANK_COLUMNS, width="stretch")
        for rank in ranks:
            if rank.error:
                st.caption(f"Process {rank.rank}: {safe(rank.error)}")


def curves(run: RunFolder) -> None:
    """What the run has measured so far; of a build, the model and each set."""
    if run.kind == "train":
        _charts(run.metrics(), _TRAIN)
        return
    inner = list_runs(run.path)
    presets = [part.name.removeprefix("train-") for part in inner]
    names = ["Model", *(f"Transcoders, {preset}" for preset in presets)]
    # Another key for another number of tabs: the one that is new is shown when its training begins.
    tabs = st.tabs(names, default=names[-1], key=f"curves {run.name} {len(names)}")
    for tab, part in zip(tabs, [run, *inner], strict=True):
        with tab:
            _charts(part.metrics(), _MODEL if part is run else _TRAIN)


def _charts(records: Sequence[dict[str, Any]], wanted: Sequence[tuple[str, str, str, bool]]) -> None:
    if not records:
        st.caption("Nothing is measured yet.")
        return
    places = st.columns(2)
    for place, (key, title, term, log) in enumerate(wanted):
        rows = series(records, key)
        with places[place % 2]:
            if rows.empty:
                st.caption(f"{title}: not measured yet.")
                continue
            last = rows[rows["step"] == rows["step"].max()]["value"]
            now = f"now {last.mean():.4g}" + (", mean of the layers" if len(last) > 1 else "")
            st.markdown(f"**{title}** :gray[{now}{_of_watched(records, key)}]", help=HELP[term])
            curve_chart(rows, title, log)


def _of_watched(records: Sequence[dict[str, Any]], key: str) -> str:
    """Of how many cells the share is, and what one answer for all of them reaches; runs of before did not
    write it down."""
    asked = [record for record in records if record.get(key) is not None and "watched" in record]
    if key != "accuracy" or not asked:
        return ""
    n, one_answer = int(asked[-1]["watched"]), float(asked[-1]["one_answer"])
    low, high = wilson(round(asked[-1][key] * n), n)
    return f" of {count(n, 'cell')} ({low:.2f} to {high:.2f}); one answer for all: {one_answer:.2f}"


def series(records: Sequence[dict[str, Any]], key: str) -> pd.DataFrame:
    """Long table step, value, series ("layer 0" … where there is a value a layer), thinned to be drawn."""
    having = [record for record in records if record.get(key) is not None]
    thin = max(1, len(having) // MOST_POINTS)
    kept = having[::thin] + ([having[-1]] if having and (len(having) - 1) % thin else [])
    rows = [
        (record["step"], value, f"layer {layer}" if isinstance(record[key], list) else key)
        for record in kept
        for layer, value in enumerate(record[key] if isinstance(record[key], list) else [record[key]])
    ]
    return pd.DataFrame(rows, columns=["step", "value", "series"])
