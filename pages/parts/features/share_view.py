"""The whole model as one file to give away: asked for here, made in the background, taken from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import download
from pages.parts.common.session import Context
from pages.parts.common.tasks import answer, asked, sources
from pages.parts.common.words import count
from scx_core.circuits import Tracer
from scx_core.figures import safe_name
from scx_core.runs import runs_root, to_dict
from scx_core.share import ShareConfig, stamp_of
from scx_core.tasks.estimates import share_seconds
from scx_core.tasks.makers import SHARED, read_shared
from scx_core.tasks.task import Task, tracer_task

CONFIG = ShareConfig()
WORDS = (
    "Atlas, circuits of all types, evidence and validation as one HTML file, searched without a network: "
    "what stands beside a paper. Evidence that was measured is taken as it is; of other types a circuit "
    f"is traced over {CONFIG.cells} cells."
)


class Made(NamedTuple):
    """A file of the folder of shared pages, and how many circuits and types with evidence are in it."""

    file: str
    circuits: int
    evidence: int
    atlas: bool


def share_view(ctx: Context) -> None:
    """A small way to the file: the button that makes it, its job, or the file."""
    with st.popover("Share", icon=":material/share:", type="tertiary"), shown_errors():
        st.markdown("**Share this model: one file**")
        st.caption(WORDS)
        tracer = loaders.tracer(ctx)
        task = task_of(ctx, tracer)
        found = answer(task, _file)
        path = runs_root() / SHARED / (found.file if found else "")
        if found is None or not path.is_file():
            asked(task, "Make the file")
            return
        said = [count(found.circuits, "circuit"), f"evidence of {count(found.evidence, 'type')}"]
        said += ["the atlas"] if found.atlas else ["no atlas"]
        st.caption(f"{path.stat().st_size / 1e6:.1f} MB with {', '.join(said)}. It goes on working offline.")
        name = f"{safe_name(tracer.lm.name)}_share.html"
        download("Download", path.read_bytes, name, "text/html", kind="primary")


def task_of(ctx: Context, tracer: Tracer) -> Task:
    """What is asked: another one as soon as an atlas or evidence is there that was not."""
    what = {"cfg": to_dict(CONFIG), "stamp": stamp_of()}
    task = tracer_task("share", f"Shared page of {tracer.lm.name}", sources(ctx), tracer, what)
    return task._replace(seconds=share_seconds(tracer, CONFIG))


def _file(record: Mapping[str, Any]) -> Made:
    """Raises Misfit."""
    found = read_shared(record)
    return Made(found["kept"], len(found["circuits"]), len(found["evidence"]), found["atlas"])
