"""What lies in the runs folder, and taking it away: trainings, builds, jobs, and what jobs have made.

Only what `kept` lists can be deleted, by its name there: the path inside the runs folder. So nothing outside
it is ever touched, no link is followed, and nothing that is being made.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scx_core.errors import ScxError
from scx_core.runs.background import JOBS
from scx_core.runs.files import read_json
from scx_core.runs.processes import is_held
from scx_core.runs.run_folder import RunFolder, runs_root

# What each folder of the runs folder holds, by the pattern of one thing in it.
MADE = {
    "evidence": "evidence/*.json",
    "atlas": "atlases/*/atlas.json",
    "validation": "validations/*.json",
    "answer": "results/*/*.json",
    "map of cells": "maps/*.npy",
    "cells of a consensus": "consensus/*/",
}
JOB = "job"


class Kept(NamedTuple):
    """One thing. `name`: its path inside the runs folder; `what`: a run's kind, "job", or a key of MADE;
    `says`: what is known of it in words; `state`: of a run or job, else ""; `bytes` on disk; `changed`:
    seconds since the epoch."""

    name: str
    what: str
    says: str
    state: str
    bytes: int
    changed: float


def kept(root: Path | None = None) -> list[Kept]:
    """All of it, the newest first."""
    root = root or runs_root()
    found = [_kept(path, what, root) for path, what in _places(root)]
    return sorted(found, key=lambda one: -one.changed)


def delete_kept(name: str, root: Path | None = None) -> Kept:
    """Delete one thing by its name in `kept`; a training or build with all that it made.

    Raises ScxError for a name that is not listed, a run or job at work, a link, and where files cannot be
    deleted.
    """
    root = root or runs_root()
    places = {path.relative_to(root).as_posix(): (path, what) for path, what in _places(root)}
    if name not in places:
        raise ScxError(f"There is no {name[:200]!r} in {root}.", "`scx runs` lists what there is.")
    path, what = places[name]
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise ScxError(f"{name} is a link to another place.", "Delete the link yourself.")
    one = _kept(path, what, root)
    if one.state == "running" or (path.is_dir() and (is_held(path / "lock") or _makes(path))):
        raise ScxError(f"{name} is at work.", "Stop it first, or wait for it to end.")
    try:
        if path.is_dir():
            gone = path.with_name(f".deleted-{path.name}")  # at once for all who look, however long it takes
            path.rename(gone)
            shutil.rmtree(gone)
        else:
            path.unlink()
    except OSError as error:
        raise ScxError(f"{name} cannot be deleted: {error.strerror}.", "Check its folder.") from error
    return one


def _places(root: Path) -> Iterator[tuple[Path, str]]:
    """Every thing and what it is."""
    for file in root.glob("*/run.json"):
        yield file.parent, "run"
    for file in root.glob(f"*/{JOBS}/*/run.json"):
        yield file.parent, JOB
    for what, pattern in MADE.items():
        for path in root.glob(pattern):
            yield (path.parent if what == "atlas" else path), what


def _kept(path: Path, what: str, root: Path) -> Kept:
    says, state = "", ""
    if (path / "run.json").exists():
        try:
            run = RunFolder.open(path)
            says, state = str(run.config.get("title") or run.config.get("label") or ""), run.status().state
            what = run.kind if what == "run" else what
        except ScxError as error:
            says, state = f"damaged: {error.problem}", "failed"
    elif path.suffix == ".json" and what == "answer":
        with suppress(ScxError, AttributeError):
            asked = read_json(path).get("about", {}).get("config", {})
            says = str(asked.get("type") or asked.get("asked", {}).get("label") or "")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = 0
    for file in files:
        with suppress(OSError):  # written anew meanwhile
            size += file.lstat().st_size
    return Kept(path.relative_to(root).as_posix(), what, says, state, size, path.lstat().st_mtime)


def _makes(path: Path) -> bool:
    """Whether a run inside this one is at work: a build trains its sets in runs of their own."""
    return any(is_held(lock) for lock in path.glob("*/lock"))
