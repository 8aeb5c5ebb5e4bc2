"""Work that outlives the page that asked for it: one way for all that takes more than seconds.

A piece of work has a place (what it makes: evidence, atlases, answers) and a name that follows from all that
decides about its result. So whoever asks the same finds the same job, in whichever tab, after whichever
restart: `RUNS/PLACE/jobs/NAME` is its run folder. What it makes lies elsewhere, where it is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from scx_core.errors import ScxError
from scx_core.runs.jobs import list_runs, start, stop_requested
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.runs.run_folder import RunFolder, runs_root

T = TypeVar("T")
JOBS = "jobs"
LONGEST_NAME = 80


def job_folder(place: str, name: str, root: Path | None = None) -> Path:
    """Where the job of this name is, or would be."""
    return (root or runs_root()) / place / JOBS / name[:LONGEST_NAME]


def find_job(place: str, name: str, root: Path | None = None) -> RunFolder | None:
    """The job of this name, running or not; None where there never was one, or its folder is damaged."""
    with suppress(ScxError):
        folder = job_folder(place, name, root)
        return RunFolder.open(folder) if (folder / "run.json").exists() else None
    return None


def launch_job(
    place: str, name: str, config: Any, argv: Sequence[str], kind: str = "", root: Path | None = None
) -> RunFolder:
    """Start it in a process of its own; one that runs already goes on as it is.

    `config`: what is asked, a dataclass or plain JSON. `kind`: default the place. Raises ScxError when no
    folder can be made.
    """
    folder = job_folder(place, name, root)
    run = find_job(place, name, root)
    if run is None:
        run = RunFolder.create(folder.parent, kind or place, config, folder.name, argv=argv)
    if run.status().state != "running":
        run.update(config=dict(config) if isinstance(config, dict) else to_dict(config), argv=list(argv))
        start(run)
    return run


def work_on(run: RunFolder, make: Callable[[Progress], T], progress: Progress = silent) -> T:
    """Do a job: `make` is given what tells how far it is. From inside the job's process.

    How it ends is written down: done (with the seconds it took), stopped when it was asked to, failed with
    the words of a ScxError. Progress never runs backwards. Raises what `make` raises, and KeyboardInterrupt
    when it was asked to stop.
    """
    with run.lock(), stop_requested() as asked_to_stop:
        furthest, since = 0.0, time.monotonic()

        def tell(done: int, total: int, message: str = "") -> None:
            nonlocal furthest
            furthest = max(furthest, done / max(1, total))
            run.write_status("running", int(furthest * total), total, message)
            progress(done, total, message)
            if asked_to_stop():
                raise KeyboardInterrupt("stopped")

        try:
            tell(0, 1, "opening cells, model and transcoders")
            made = make(tell)
        except KeyboardInterrupt:
            status = run.status()
            run.write_status("stopped", status.done, status.total, "stopped")
            raise
        except ScxError as error:
            status = run.status()
            run.write_status("failed", status.done, status.total, error.problem, error=str(error))
            raise
        run.write_status("done", 1, 1, "finished", seconds=round(time.monotonic() - since, 1))
        return made


def all_jobs(root: Path | None = None) -> list[RunFolder]:
    """All jobs of every place, the newest first; trainings and builds are runs of their own."""
    folders = (root or runs_root()).glob(f"*/{JOBS}")
    found = [run for folder in sorted(folders) for run in list_runs(folder)]
    return sorted(found, key=lambda run: run.path.stat().st_mtime, reverse=True)
