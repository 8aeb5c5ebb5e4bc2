"""Questions that take longer than a click, on a page: asked once, done in the background, found again.

A part of a page makes a `Task` (scx_core.tasks), shows its answer where there is one, its job where it is
under way, and else a button that says how long it will take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

from pages.parts.common.jobs import REFRESH_S, job_box, job_message, running
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import duration, safe
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, all_jobs
from scx_core.tasks import Sources, Task, answer_of, job_of_task, launch_task
from scx_core.tasks.estimates import here
from scx_core.transcoders.sources import absolute

T = TypeVar("T")
_READ: Memory[Any] = Memory(48)


def sources(ctx: Context) -> Sources:
    """What a job of this context opens."""
    places = (absolute(source) for source in (ctx.data, ctx.model, ctx.transcoders))
    return Sources(*places, ctx.device, ctx.as_is, ctx.cells)


def answer(task: Task, read: Callable[[Mapping[str, Any]], T]) -> T | None:
    """The answer that was given before, read once for all sessions as long as its file stays the same. One
    that cannot be read counts as none: it is asked again."""
    found = answer_of(task)
    if found is None:
        return None
    key = (str(found.path), found.path.stat().st_mtime_ns)
    try:
        return _READ.get(key, lambda: read(found.result))
    except (ScxError, KeyError, TypeError, ValueError):
        return None


def asked(task: Task, button: str, **options: Any) -> None:
    """The job of a task while it is under way, else a button that starts it and says how long it takes."""
    if not waits(task):
        ask_button(task, button, **options)


def ask_button(task: Task, button: str, **options: Any) -> None:
    """A button that starts the job of a task, with the `options` of st.button."""
    words = f"{button}: about {duration(here(task.kind, task.seconds))}, in the background"
    if st.button(words, **({"key": f"ask {task.kind}"} | options)):
        begin(task)


def waits(task: Task, more: Callable[[RunFolder], None] | None = None) -> bool:
    """Show how far the job of a task is; whether there is one that is not done."""
    return job_box(job_of_task(task), task.title, more)


def behind_the_form(task: Task, words: str) -> None:
    """A small answer that a form wants, in one line: its job is begun where none of its kind runs, and the
    page is drawn again when one has ended. One that was stopped or failed is begun when a person asks."""
    mine = job_of_task(task)
    busy = [run for run in running(all_jobs()) if run.kind == task.kind]
    if not busy and mine is not None and mine.status().state != "done":
        job_message(mine, mine.status())
        ask_button(task, "Try again", type="tertiary")
        return
    if not busy:
        with shown_errors():
            busy = [launch_task(task)]
    if busy:
        st.fragment(_until_ended, run_every=REFRESH_S)(busy[0], f"{words} in the background …")


def _until_ended(run: RunFolder, words: str) -> None:
    if run.status().state != "running":
        st.rerun()
    st.caption(words)


def at_work(task: Task) -> bool:
    """Whether its job runs now."""
    run = job_of_task(task)
    return run is not None and run.status().state == "running"


def pending(task: Task) -> bool:
    """Whether there is a job of it that is not done: it runs, or was interrupted."""
    run = job_of_task(task)
    return run is not None and run.status().state != "done"


def begin(task: Task) -> None:
    """Start its job, and draw the page again."""
    with shown_errors():
        launch_task(task)
        st.toast(f"{safe(task.title)}: in the background. You may leave this page.")
        st.rerun()
