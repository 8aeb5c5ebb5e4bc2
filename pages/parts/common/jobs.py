"""Background jobs as a person sees them: what is running, how far, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.words import duration, safe, short
from scx_core.runs import RunFolder, RunStatus, all_jobs, list_runs, resume, runs_root, stop

KINDS = {"train": "transcoders", "build": "model and transcoders"}
STATES = {
    "new": ":gray-badge[not started]",
    "running": ":blue-badge[running]",
    "stopped": ":orange-badge[stopped]",
    "dead": ":orange-badge[interrupted]",
    "failed": ":red-badge[failed]",
    "done": ":green-badge[done]",
}
REFRESH_S = 2.0
_CHECKPOINTS = ("train", "build", "evidence")  # what goes on where it was


def jobs() -> list[RunFolder]:
    """All trainings and builds, the newest first."""
    found = [run for run in list_runs(runs_root()) if run.kind in KINDS]
    return sorted(found, key=lambda run: run.path.stat().st_mtime, reverse=True)


def running(runs: list[RunFolder]) -> list[RunFolder]:
    """Those at work now."""
    return [run for run in runs if run.status().state == "running"]


def progress_bar(status: RunStatus, name: str = "", counted: bool = True) -> None:
    """How far, what is being done, how long still; under a run's name where several are shown. `counted`: the
    steps are worth being told."""
    whose = f"**{safe(name)}**: " if name else ""
    share = min(1.0, status.done / status.total) if status.total else 0.0
    part, parts = status.more.get("part"), status.more.get("parts")
    where = f"part {part} of {parts}, " if parts else ""
    left = f", {duration(status.eta_s)} left" + (" in this part" if parts else "") if status.eta_s else ""
    steps = f" {status.done:,} of {status.total:,}" if counted and status.total > 1 else ""
    st.progress(share, text=f"{whose}{where}{safe(status.message or 'starting')}{steps}{left}")


def title_of(run: RunFolder) -> str:
    """What a job is called: a training by its name, all else by what it makes."""
    if run.kind in KINDS:
        return run.name
    if run.kind == "evidence":
        return f"Evidence, {run.config.get('label') or 'the largest types'}"
    if run.kind == "atlas":
        return f"Atlas of {short(str(run.config.get('transcoders', '')))}"
    return str(run.config.get("title", run.name))


def goes_on(run: RunFolder) -> bool:
    """Whether it goes on where it was, if it is started again; all else begins anew."""
    return run.kind in _CHECKPOINTS or bool(run.config.get("goes_on"))


def job_buttons(run: RunFolder, status: RunStatus) -> None:
    """Stop what runs; resume what does not and is not done."""
    kept_part = goes_on(run)
    if status.state == "running":
        words = "With a checkpoint." if kept_part else "Nothing is kept of what is done by now."
        if st.button("Stop", key=f"stop {run.name}", icon=":material/stop:", help=words):
            with shown_errors():
                stop(run)
                kept = ", with a checkpoint" if kept_part else ""
                st.toast(f"{safe(title_of(run))} ends at its next step{kept}.")
    elif status.state != "done":
        words = "Goes on from the latest checkpoint." if kept_part else "From the beginning."
        label = "Resume" if kept_part else "Start again"
        if st.button(label, key=f"resume {run.name}", icon=":material/play_arrow:", help=words):
            with shown_errors():
                resume(run, afresh=not kept_part)
                st.rerun()


def job_message(run: RunFolder, status: RunStatus) -> None:
    """What happened, what is kept, what to try; nothing when all is well."""
    kept_part = goes_on(run)
    if status.state == "dead":
        kept = (
            "Its last checkpoint is kept: Resume goes on from there."
            if kept_part
            else "Start again begins anew; what was known before is kept."
        )
        st.warning(f"The process is gone (the computer was switched off, or it was killed). {kept}")
    elif status.state == "failed":
        kept = " Checkpoints and curves are kept." if run.kind in KINDS else ""
        st.error(f"{safe(status.error or status.message)}{kept}")
    elif status.state == "stopped":
        kept = (
            "The checkpoint is kept: Resume goes on from there." if kept_part else "Start again begins anew."
        )
        st.info(f"Stopped. {kept}")


def job_box(run: RunFolder | None, title: str = "", more: Callable[[RunFolder], None] | None = None) -> bool:
    """A job as far as it is, with its buttons, in a box; whether there was anything to show. What is done is
    not: its result stands on the page. `more` draws what is known of it by now."""
    state = run.status().state if run is not None else "done"
    if run is None or state == "done":
        return False
    live = state == "running"
    with st.container(border=True):
        st.fragment(_box, run_every=REFRESH_S if live else None)(run, title or title_of(run), live, more)
    return True


def _box(run: RunFolder, title: str, was_running: bool, more: Callable[[RunFolder], None] | None) -> None:
    """How far, and what can be done; the whole page is drawn again once it has ended."""
    with shown_errors():
        status = run.status()
        if was_running and status.state != "running":
            st.rerun()
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.markdown(f"**{safe(title)}** {STATES[status.state]}")
        with right.container(horizontal=True, horizontal_alignment="right"):
            job_buttons(run, status)
        job_message(run, status)
        if status.state == "running":
            progress_bar(status._replace(done=0, total=1) if not status.total else status, counted=False)
            st.caption("It goes on when this page is left or closed, and is the same in every tab.")
            if more is not None:
                more(run)


def running_panel() -> None:
    """The running jobs in the side bar, refreshed while there are any."""
    every = REFRESH_S if running([*jobs(), *all_jobs()]) else None
    st.fragment(_running_now, run_every=every)()


def _running_now() -> None:
    with shown_errors():
        now = running([*jobs(), *all_jobs()])
        for run in now:
            progress_bar(run.status(), title_of(run), counted=run.kind in KINDS)
        if not now:
            st.caption("No job is running.")
