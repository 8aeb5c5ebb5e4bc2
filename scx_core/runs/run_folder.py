"""One folder per run: what was asked, how far it is, what was measured, and where to take it up again.

run.json        kind, configuration, provenance, and the arguments that start it again
status.json     how far it is, written by the job
process.json    which process was started for it, written by the starter
metrics.jsonl   one record a line
checkpoints/    step-000123.safetensors + step-000123.json
stop            there when the job was asked to end
lock, job.log
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from socket import gethostname
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from scx_core.errors import ScxError
from scx_core.runs import checkpoints
from scx_core.runs.checkpoints import Checkpoint
from scx_core.runs.files import (
    append_jsonl,
    check_object,
    is_portable,
    overwrite,
    read_json,
    read_jsonl,
    to_json_text,
    write_atomic,
    write_json,
)
from scx_core.runs.options import to_dict
from scx_core.runs.processes import ProcessIdentity, file_lock, identity_of, is_alive, is_held
from scx_core.runs.provenance import provenance as make_provenance

if TYPE_CHECKING:
    from torch import Tensor

STATES = ("new", "running", "stopped", "failed", "done")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}")
STOP = "stop"
_WINDOW = 30  # status records that the speed is measured over
_PAUSE = 0.2  # seconds between two "running" records on disk


LAST_USED = "last-used.json"  # what the dashboard begins with, in the folder of the runs


def runs_root() -> Path:
    """Where runs live: the environment's SCX_RUNS, else `runs` in the current folder."""
    return Path(os.environ.get("SCX_RUNS") or "runs").absolute()


class RunStatus(NamedTuple):
    """How far a run is. `state` is one of STATES, or "dead": it should run, and its process is gone unasked.

    `per_second` (steps per second) and `eta_s` (seconds left) are None until they are known.
    """

    state: str
    done: int = 0
    total: int = 0
    message: str = ""
    per_second: float | None = None
    eta_s: float | None = None
    pid: int | None = None
    error: str = ""
    more: Mapping[str, Any] = MappingProxyType({})


_STATUS = {
    "done": int,
    "total": int,
    "message": str,
    "per_second": (int, float, type(None)),
    "eta_s": (int, float, type(None)),
    "pid": (int, type(None)),
    "error": str,
    "more": {},
}


class RunFolder:
    """A run on disk. Reading is always safe; writing is for the one process that holds `lock()`."""

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path = path
        self._record = dict(record)
        self._written: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._last_write, self._last_message = float("-inf"), ""

    @classmethod
    def create(
        cls,
        root: Path | str,
        kind: str,
        config: Any,
        name: str | None = None,
        *,
        provenance: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
    ) -> RunFolder:
        """A new folder under `root`, called `name` or the next free `kind-001`.

        `config` is a dataclass or a dict; `argv` what `start` runs. Raises ScxError for a name that is taken,
        in whatever capitals, or cannot be a folder's on every system.
        """
        root = Path(root)
        if name is not None and not _NAME.fullmatch(name):
            raise ScxError(
                f"{name[:80]!r} cannot be the name of a run.",
                "Use at most 80 letters, digits, spaces, dots, dashes, underscores; a letter or digit first.",
            )
        if name is not None and not is_portable(name):
            raise ScxError(
                f"{name!r} cannot be the name of a run: Windows keeps it for a device, or drops its end.",
                "Choose a name that is no CON, PRN, AUX, NUL, COM1 or LPT1 and ends in no dot or space.",
            )
        settings = dict(config) if isinstance(config, Mapping) else to_dict(config)
        record = {
            "kind": kind,
            "config": settings,
            "provenance": dict(provenance) if provenance is not None else make_provenance(config=settings),
            "argv": list(argv),
        }
        path = _make_folder(root, kind, name)
        write_json(path / "run.json", record)
        return cls(path, record)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The run at `path`. Raises ScxError when it is none."""
        record = read_json(Path(path) / "run.json")
        if not isinstance(record, dict) or not {"kind", "config"} <= set(record):
            raise ScxError(f"{path} is no run: its run.json lacks kind or config.", "Choose another folder.")
        check_object(record, {"kind": str, "config": {}, "provenance": {}}, Path(path) / "run.json")
        if not isinstance(record.get("argv", []), list):
            raise ScxError(f"{path}: argv of its run.json is no list.", "Restore the file, or make it anew.")
        return cls(Path(path), record)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def kind(self) -> str:
        """What the run does, such as "train"."""
        return str(self._record["kind"])

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return dict(self._record["config"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the run."""
        return dict(self._record.get("provenance", {}))

    @property
    def argv(self) -> list[str]:
        """The arguments of `python -m scx_core` that start it."""
        return [str(word) for word in self._record.get("argv", [])]

    def update(self, **record: Any) -> None:
        """Change keys of run.json (`argv`, `provenance`, `config`)."""
        self._record |= record
        write_json(self.path / "run.json", self._record)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run exclusively; ScxError when another process does. A dead process holds nothing."""
        return file_lock(self.path / "lock", f"The run {self.name}")

    # metrics ---------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a record (with its `step`) to the metrics."""
        append_jsonl(self.path / "metrics.jsonl", record)

    def metrics(self) -> list[dict[str, Any]]:
        """All records so far."""
        return read_jsonl(self.path / "metrics.jsonl")

    def truncate_metrics(self, step: int) -> None:
        """Drop the records after `step`: a resumed job writes them again. Records without a step are kept."""
        kept = [record for record in self.metrics() if record.get("step", step) <= step]
        write_atomic(self.path / "metrics.jsonl", "".join(to_json_text(record) + "\n" for record in kept))

    # checkpoints -----------------------------------------------------------------------------------------

    def save_checkpoint(
        self,
        step: int,
        tensors: dict[str, Tensor],
        state: Mapping[str, Any],
        *,
        keep: int = 2,
        score: float | None = None,
    ) -> None:
        """Write a checkpoint atomically; the last `keep` stay, and that of the lowest `score`. ScxError when
        the disk is full."""
        checkpoints.save(self.path / "checkpoints", step, tensors, dict(state), keep, score)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None."""
        return checkpoints.load_latest(self.path / "checkpoints")

    def best_checkpoint(self) -> Checkpoint | None:
        """The whole checkpoint of the lowest score, the earlier of equal ones; None when none has one."""
        return checkpoints.load_best(self.path / "checkpoints")

    def scores(self) -> dict[int, float]:
        """Step → score of the whole checkpoints that have one, the best first."""
        return checkpoints.scores(self.path / "checkpoints")

    # status ----------------------------------------------------------------------------------------------

    def write_status(
        self, state: str, done: int, total: int, message: str = "", *, error: str = "", **more: Any
    ) -> None:
        """Say how far the job is, from inside the job. `more` is kept beside (plain JSON).

        May be called at every step: "running" is written a few times a second at most, another message at
        once.
        """
        if state not in STATES:
            raise ValueError(f"state must be one of {STATES}, not {state!r}")
        now = time.monotonic()
        if self._written and done < self._written[-1][1]:
            self._written.clear()
        self._written.append((now, done))
        same = state == "running" and message == self._last_message
        if same and now - self._last_write < _PAUSE:
            return
        (first, base), speed = self._written[0], None
        if now > first and done > base:
            speed = (done - base) / (now - first)
        self._last_write, self._last_message = now, message
        identity = identity_of() if state == "running" else None
        record = {
            "state": state,
            "done": done,
            "total": total,
            "message": message,
            "per_second": speed,
            "eta_s": (total - done) / speed if speed and state == "running" else None,
            "error": error,
            "more": more,
            "process": identity._asdict() if identity else None,
        }
        path = self.path / "status.json"
        try:
            # Not durable: after a power cut the checkpoint counts, not the status.
            write_json(path, record, durable=False)
        except ScxError:
            if state != "failed" or not overwrite(path, to_json_text(record)):
                raise

    def status(self) -> RunStatus:
        """How far the job is now; "dead" when it should run and its process is gone unasked. Raises ScxError
        that names the file where it is damaged."""
        path = self.path / "status.json"
        if not path.exists():
            return RunStatus("new")
        record = check_object(read_json(path), _STATUS, path)
        if record.get("state") not in STATES:
            problem = f"{path}: state is {repr(record.get('state'))[:40]}, not one of {', '.join(STATES)}."
            raise ScxError(problem, "Delete that file.")
        status = RunStatus(**{key: record[key] for key in RunStatus._fields if key in record})
        process = self.process()
        if status.state != "running" or process is None:
            return status
        # A job says that it runs while it holds the lock. Before, there is only the word of who started it.
        asked = process.host == gethostname() or not record.get("process")
        if is_alive(process) if asked else is_held(self.path / "lock"):
            return status._replace(pid=process.pid)
        if (self.path / STOP).exists():
            return status._replace(state="stopped", per_second=None, eta_s=None)
        return status._replace(state="dead", per_second=None, eta_s=None, error=self._last_words())

    def process(self) -> ProcessIdentity | None:
        """The process that runs the job, or ran it last, as far as is known."""
        for file, key in (("status.json", "process"), ("process.json", None)):
            path = self.path / file
            record = check_object(read_json(path), {}, path) if path.exists() else None
            record = record.get(key) if record and key else record
            if record:
                identity = check_object(record, {"pid": int, "birth": str, "host": str}, path)
                if identity.keys() != set(ProcessIdentity._fields):
                    raise ScxError(f"{path} names no process.", "Delete that file.")
                return ProcessIdentity(**identity)
        return None

    def _last_words(self) -> str:
        """The last line of the log, for a job that ended without a word."""
        path = self.path / "job.log"
        if not path.exists():
            return ""
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")


def _make_folder(root: Path, kind: str, name: str | None) -> Path:
    """Make the folder; the system says which of two creators at the same moment was first."""
    names = [name] if name is not None else (f"{kind}-{number:03d}" for number in range(1, 100_000))
    for candidate in names:
        try:
            root.mkdir(parents=True, exist_ok=True)
            if (other := _in_other_capitals(root, candidate)) is not None:
                if name is None:
                    continue
                problem = f"There is a run {other} in {root}: {name} differs from it in capitals only."
                raise ScxError(problem, "Choose another name: to Windows and macOS the two are one.")
            (root / candidate).mkdir()
            return root / candidate
        except FileExistsError:
            continue
        except OSError as error:
            problem = f"No run folder can be made in {root}: {error.strerror}."
            raise ScxError(problem, "Choose another place.") from error
    raise ScxError(f"There is a run {name} in {root} already.", "Choose another name.")


def _in_other_capitals(root: Path, name: str) -> str | None:
    """What lies in a folder under this name in other capitals, which some systems take for the same."""
    if (root / name).exists():
        return None  # taken as it is, or by a system that sees no capitals: making it says so
    with os.scandir(root) as entries:
        return next((entry.name for entry in entries if entry.name.lower() == name.lower()), None)
