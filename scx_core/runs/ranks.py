"""Runs that several processes share: a small file a process on how far it is; all else is rank 0's to write.

ranks/rank-01.json      written now and then by process 1
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from scx_core.runs.files import read_json, write_json
from scx_core.runs.processes import ProcessIdentity, identity_of, is_alive
from scx_core.runs.run_folder import RunFolder

FOLDER = "ranks"
PAUSE = 1.0  # seconds between two records of a process that runs


class RankStatus(NamedTuple):
    """How far a process is. `memory` in bytes, on its device; `state` running, ended, failed, or dead when it
    should run and is gone."""

    rank: int
    state: str = "running"
    step: int = 0
    tokens_per_second: float = 0.0
    memory: int = 0
    device: str = ""
    error: str = ""


class RankFile:
    """The record of one process, kept by itself. A run of one process has none."""

    def __init__(self, run: RunFolder, rank: int, size: int, device: str) -> None:
        self.path = run.path / FOLDER / f"rank-{rank:02d}.json"
        self.status, self.shared = RankStatus(rank, device=device), size > 1
        self._next = 0.0
        if rank == 0:
            for old in ranks_of(run):
                if old.rank >= size or not self.shared:
                    (run.path / FOLDER / f"rank-{old.rank:02d}.json").unlink(missing_ok=True)

    def write(self, **known: Any) -> None:
        """Take over what is known now; onto the disk at most every second, another state at once."""
        before, self.status = self.status, self.status._replace(**known)
        if self.shared and (self.status.state != before.state or time.monotonic() >= self._next):
            self._next = time.monotonic() + PAUSE
            identity = identity_of()
            record = self.status._asdict() | {"process": identity._asdict() if identity else None}
            write_json(self.path, record, durable=False)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, the process runs; afterwards its record says how it ended."""
        try:
            yield
        except BaseException as error:
            self.write(state="failed", error=str(error)[:500])
            raise
        self.write(state="ended")


def ranks_of(run: RunFolder) -> list[RankStatus]:
    """All processes that share the run, by rank; none for a run of one process."""
    found = []
    for file in sorted((run.path / FOLDER).glob("rank-*.json")):
        record = read_json(file)
        status = RankStatus(**{key: record[key] for key in RankStatus._fields if key in record})
        process = record.get("process")
        if status.state == "running" and not (process and is_alive(ProcessIdentity(**process))):
            status = status._replace(state="dead")
        found.append(status)
    return found


class ReadOnlyRun(RunFolder):
    """The same run for the processes that do not lead: they read it; what they write goes nowhere, and rank 0
    holds the lock for all."""

    @classmethod
    def of(cls, run: RunFolder) -> ReadOnlyRun:
        """Another view of `run`."""
        return cls(run.path, run._record)

    def lock(self) -> AbstractContextManager[None]:
        """Nothing is held."""
        return contextlib.nullcontext()

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """Rank 0 writes."""

    update = log = truncate_metrics = save_checkpoint = write_status = _nothing
