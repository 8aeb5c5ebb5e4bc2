"""The list of runs, and the one that is looked at: live curves, stop, resume, duplicate, use."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import in_use as sources
from pages.parts.common.jobs import KINDS, REFRESH_S, STATES, job_buttons, job_message, jobs, progress_bar
from pages.parts.common.messages import next_step, shown_errors
from pages.parts.common.session import context, use
from pages.parts.common.words import FORMS, HELP, count, number, percent, safe
from pages.parts.common.words import KINDS as CODERS
from pages.parts.train.curves import curves
from pages.parts.train.presets import TITLES, duplicate
from pages.parts.train.ranks import ranks_table
from scx_core.runs import RunFolder, RunStatus, from_dict, read_json
from scx_core.training.config import TranscoderConfig
from scx_core.validation import setting, validation_beside, verdict

LOOKED_AT = "scx_run"
# Drawing the curves takes as long as steps of a small model: seldom enough not to hold the training up.
CURVES_S = 10.0


def run_list() -> None:
    """All runs, the newest first; one of them in full."""
    st.markdown("### Runs")
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
            _actions(run, status)
        job_message(status)
        if status.state == "running":
            progress_bar(status)
        if status.state != "done":
            ranks_table(run)


def _actions(run: RunFolder, status: RunStatus) -> None:
    job_buttons(run, status)
    words = "Takes its settings into the form above."
    if run.kind == "train" and st.button("Duplicate", help=words, key=f"copy {run.name}"):
        duplicate(run)
        st.rerun()
    if status.state == "done":
        _use(run)


def _curves(run: RunFolder) -> None:
    with shown_errors():
        curves(run)


def _about(run: RunFolder) -> str:
    """What it is trained on, with what."""
    config = run.config
    parts = [KINDS[run.kind], f"cells: {sources.cells_name(config['data'])}"]
    if run.kind == "train":
        coder = from_dict(TranscoderConfig, config["transcoder"])
        form = "" if coder.form == "transcoder" else f"{FORMS[coder.form]}, "
        parts += [
            f"model: {sources.model_name(config['model'])}",
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
    st.markdown(
        f"Right about **{percent(figures['label_accuracy_orig'], 1)}** of "
        f"{count(found['n_held_out'], 'held-out cell')}, "
        f"**{percent(figures['label_accuracy_transcoder'], 1)}** with every MLP replaced "
        f"({name} transcoders: CE recovered {number(figures['ce_recovered'], 4)}, "
        f"KL {number(figures['kl'], 4)}, L0 {number(figures['l0'], 1)}).",
        help=HELP["ce_recovered"],
    )
    made = validation_beside(run.path / "transcoders", {})
    if made is not None and made.warnings:
        more = any(caution.sign == "accuracy" for caution in made.warnings)
        then = " Train again with more cells read." if more else ""
        st.markdown(f":orange[:material/warning:] {safe(verdict(made))}{then}")


def _use(run: RunFolder) -> None:
    """Take what was made into use, and say what comes next."""
    made = sources.trained(run) if run.kind == "train" else sources.built(run)
    if context().transcoders == made["transcoders"]:
        st.markdown(":green-badge[in use]")
        next_step("pages/validate.py", "Validate", "content")
        return
    label = "Use these transcoders" if run.kind == "train" else "Use this model"
    if st.button(label, type="primary", key=f"use {run.name}"):
        use(**made)
        st.rerun()
