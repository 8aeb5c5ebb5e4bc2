"""A question as a job: how it is called, started, done and answered.

The name of a task follows from its kind and from everything that decides about its answer: fingerprints of
what it reads and all that was asked. Its job is `RUNS/tasks/jobs/NAME`; its answer lies in `RUNS/results`,
as that of any question (`scx_core.runs.cached_results`), or where things of its kind have always lain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.runs import (
    CachedResult,
    Progress,
    RunFolder,
    cached,
    find_cached,
    find_job,
    from_dict,
    launch_job,
    provenance,
    silent,
    to_dict,
    work_on,
)
from scx_core.runs.background import LONGEST_NAME
from scx_core.runs.cached_results import key_of
from scx_core.runs.jobs import RUN
from scx_core.tasks.sources import Opened, Sources

PLACE = "tasks"
ARGV = ("runs", "work", RUN)
_TOLD = ("title", "asked", "about", "goes_on", "seconds")  # beside the sources
Maker = Callable[[Opened, dict[str, Any], Progress], dict[str, Any]]


class Task(NamedTuple):
    """What is asked. `kind`: a name of `MAKERS`; `title`: for people; `asked`: plain JSON, all its maker
    needs; `about`: the provenance that the answer is found by; `goes_on`: whether a stopped one goes on where
    it was; `seconds` that it is thought to take (`scx_core.tasks.estimates`), 0 where nobody knows."""

    kind: str
    title: str
    sources: Sources
    asked: dict[str, Any]
    about: dict[str, Any]
    goes_on: bool = False
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Equal for equal questions about equal things."""
        return f"{self.kind}-{key_of(self.about)}"


def tracer_task(kind: str, title: str, sources: Sources, tracer: Tracer, asked: Mapping[str, Any]) -> Task:
    """A question about cells, model and set. Raises ScxError for a set that was never saved."""
    if not tracer.transcoders.fingerprint:
        raise ScxError("This set was never saved, so nothing of it could be found again.", "Save it first.")
    told = {"choices": str(getattr(tracer.table, "choices", "")), "labels": tracer.labels}
    about = tracer.about({"asked": dict(asked)} | told)
    del about["validation"]  # what is known of the set decides about no number, and comes later
    return Task(kind, title, sources, dict(asked), about)


def table_task(
    kind: str, title: str, sources: Sources, table: CellTable, asked: Mapping[str, Any], **parts: Any
) -> Task:
    """A question about cells, and `parts` (model, transcoders) that need not fit for tracing."""
    told = {"asked": dict(asked), "choices": str(table.choices)}
    return Task(kind, title, sources, dict(asked), provenance(config=told, data=table, **parts))


def job_of_task(task: Task, root: Path | None = None) -> RunFolder | None:
    """Its job, in whichever state; None where there never was one."""
    return find_job(PLACE, task.name, root)


def answer_of(task: Task, root: Path | None = None) -> CachedResult | None:
    """Its answer, where it was given before."""
    return find_cached(task.kind, task.about, runs=root)


def launch_task(task: Task, root: Path | None = None) -> RunFolder:
    """Start it in the background; one that runs already goes on as it is. Raises ScxError when no folder can
    be made."""
    told = {name: getattr(task, name) for name in _TOLD}
    config = to_dict(task.sources) | told
    return launch_job(PLACE, task.name, config, ARGV, task.kind, root)


def run_task(run: RunFolder, progress: Progress = silent) -> None:
    """Do the task of a job and keep its answer. Raises ScxError where its sources cannot be opened, are not
    what they were when it was asked, or do not fit; KeyboardInterrupt when it was asked to stop."""
    from scx_core.tasks.makers import MAKERS

    config = dict(run.config)
    told = {name: config.pop(name) for name in _TOLD if name in config}
    maker = MAKERS.get(run.kind)
    if maker is None:
        raise ScxError(f"{run.name} asks for {run.kind!r}, which is not known.", "Delete it.")
    root = run.path.parent.parent.parent  # RUNS/tasks/jobs/NAME

    def make(tell: Progress) -> None:
        _check_asked(run, told)
        opened = Opened(from_dict(Sources, config), root, run.path)
        _same(opened, told["about"])
        answer = maker(opened, told["asked"], tell)
        cached(run.kind, told["about"], lambda: answer, runs=root, again=True)

    work_on(run, make, progress)


def _check_asked(run: RunFolder, told: Mapping[str, Any]) -> None:
    """Raise ScxError where the job's file was damaged or edited since it was asked: its answer would be kept
    as that of another question."""
    about, asked = told.get("about"), told.get("asked")
    stated = about.get("config", about) if isinstance(about, dict) else None
    same = (
        isinstance(about, dict)
        and isinstance(stated, dict)
        and isinstance(asked, dict)
        and run.name == f"{run.kind}-{key_of(about)}"[:LONGEST_NAME]
        and stated.get("asked", asked) == asked
    )
    if not same:
        problem = f"{run.path / 'run.json'} asks for something else than when it was made."
        raise ScxError(problem, "Delete the job and ask again.")


def _same(opened: Opened, about: Mapping[str, Any]) -> None:
    """Raise ScxError where a file was changed between the question and now."""
    parts = (("cells", "data", "table"), ("model", "model", "lm"), ("set", "transcoders", "coders"))
    for words, key, name in parts:
        stated = about.get(key, {})
        if stated and stated.get("fingerprint") != getattr(opened, name).fingerprint:
            raise ScxError(f"The {words} are not what they were when this was asked.", "Ask again.")
