"""`scx runs`: what lies in the runs folder, how far it is, and stopping, resuming, deleting it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, resume, runs_root, stop
from scx_core.runs.jobs import wait_for
from scx_core.runs.kept import delete_kept, kept

HELP = "list, stop, resume and delete runs, jobs and what they made"
DESCRIPTION = (
    "Without a verb: all that lies in the runs folder, the newest first. A name is a path inside that "
    "folder, as the list has it."
)
VERBS = ("list", "stop", "resume", "delete", "work", "wait")


def options(parser: argparse.ArgumentParser) -> None:
    """A verb, names, --yes, --runs."""
    parser.add_argument(
        "verb",
        nargs="?",
        default="list",
        choices=VERBS,
        help="list (default), stop, resume, delete; work FOLDER: do a job here, as the app starts it; wait "
        "FOLDER NAME: begin the run in FOLDER once the run NAME beside it has ended",
    )
    parser.add_argument("name", nargs="*", help="names of the list; of work a job's folder")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    common.add_runs(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it."""
    if args.verb == "list":
        return {"runs": [one._asdict() for one in kept(args.runs)]}
    if not args.name:
        raise ScxError(f"`scx runs {args.verb}` needs a name.", "`scx runs` lists what there is.")
    if args.verb == "work":
        return {"done": [_work(args, name) for name in args.name]}
    if args.verb == "wait":
        if len(args.name) != 2:
            raise ScxError("`scx runs wait` needs a folder and a name.", "Give FOLDER NAME.")
        wait_for(RunFolder.open(args.name[0]), args.name[1])
    if args.verb == "delete":
        return {"deleted": _delete(args)}
    act: Callable[[RunFolder], Any] = stop if args.verb == "stop" else resume
    for name in args.name:
        act(RunFolder.open(_inside(args.runs, name)))
    return {args.verb: args.name}


def _work(args: argparse.Namespace, folder: str) -> str:
    from scx_core.tasks import run_task

    run_task(RunFolder.open(folder), common.progress_of(args))
    return folder


def _delete(args: argparse.Namespace) -> list[str]:
    sizes = {one.name: one.bytes for one in kept(args.runs)}
    if not args.yes:
        if not sys.stdin.isatty():
            raise ScxError("Nothing is deleted without being asked for twice.", "Add --yes.")
        total = sum(sizes.get(name, 0) for name in args.name) / 1e6
        print(f"Delete {', '.join(args.name)} ({total:,.1f} MB)? It cannot be brought back. [y/N] ", end="")
        if input().strip().lower() not in ("y", "yes"):
            return []
    return [delete_kept(name, args.runs).name for name in args.name]


def _inside(root: Path | None, name: str) -> Path:
    root = root or runs_root()
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ScxError(f"{name[:200]!r} is not in {root}.", "`scx runs` lists what there is.")
    return path


def summary(result: dict[str, Any]) -> str:
    """The list, or what was done."""
    if "runs" not in result:
        ((verb, names),) = result.items()
        return f"{verb}: {', '.join(names) or 'nothing'}"
    if not result["runs"]:
        return "There is nothing yet."
    rows = [
        (one["name"], one["what"], one["state"], f"{one['bytes'] / 1e6:.1f}", one["says"])
        for one in result["runs"]
    ]
    return str(common.columns(rows, ("name", "what", "state", "MB", "of")))
