"""Background jobs as a person sees them: what is running, how far, and what can be done about it."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.messages import shown_errors
from pages.parts.common.words import duration, safe
from scx_core.runs import RunFolder, RunStatus, list_runs, resume, runs_root, stop

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
# As `scx_core.evidence.by_type.job` has it, which brings torch: the first page must not wait for that.
MEASUREMENTS = ("evidence", "jobs")


def jobs() -> list[RunFolder]:
    """All trainings and builds, the newest first."""
    found = [run for run in list_runs(runs_root()) if run.kind in KINDS]
    return sorted(found, key=lambda run: run.path.stat().st_mtime, reverse=True)


def measurements() -> list[RunFolder]:
    """All measurements of evidence, the newest first."""
    found = list_runs(runs_root().joinpath(*MEASUREMENTS))
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


def job_buttons(run: RunFolder, status: RunStatus) -> None:
    """Stop what runs; resume what does not and is not done."""
    if status.state == "running":
        if st.button("Stop", key=f"stop {run.name}", icon=":material/stop:", help="With a checkpoint."):
            with shown_errors():
                stop(run)
                st.toast(f"{safe(run.name)} ends at its next step, with a checkpoint.")
    elif status.state != "done":
        words = "Goes on from the latest checkpoint."
        if st.button("Resume", key=f"resume {run.name}", icon=":material/play_arrow:", help=words):
            with shown_errors():
                resume(run)
                st.rerun()


def job_message(status: RunStatus) -> None:
    """What happened, what is kept, what to try; nothing when all is well."""
    if status.state == "dead":
        st.warning(
            "The process is gone (the computer was switched off, or it was killed). Its last checkpoint is "
            f"kept: Resume goes on from there. {safe(status.error)}"
        )
    elif status.state == "failed":
        st.error(f"{safe(status.error or status.message)} Checkpoints and curves are kept.")
    elif status.state == "stopped":
        st.info("Stopped. The checkpoint is kept: Resume goes on from there.")


def running_panel() -> None:
    """The running jobs in the side bar, refreshed while there are any."""
    every = REFRESH_S if running([*jobs(), *measurements()]) else None
    st.fragment(_running_now, run_every=every)()


def _running_now() -> None:
    with shown_errors():
        now = running([*jobs(), *measurements()])
        for run in now:
            told = run.kind == "evidence"  # its messages name the type
            progress_bar(run.status(), "" if told else run.name, counted=not told)
        if not now:
            st.caption("No job is running.")
