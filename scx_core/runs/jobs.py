"""Background jobs: started detached, to outlive a browser refresh and the program that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil

import scx_core
from scx_core.errors import ScxError
from scx_core.runs.files import write_atomic, write_json
from scx_core.runs.processes import ProcessIdentity, identity_of
from scx_core.runs.run_folder import STOP, RunFolder

SHUTDOWN, PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", 600  # seconds
RUN = "{run}"  # stands for the run's own folder in argv, so that a folder can be moved


def start(run: RunFolder, argv: Sequence[str] | None = None, after: RunFolder | None = None) -> int:
    """Run `python -m scx_core *argv` detached, with its output in job.log, and return its pid.

    `argv` is kept in run.json for `resume` (default: what is there); "{run}" in it stands for the folder.
    Paths in it should be absolute. `after`: another run beside this one, which is waited for (`wait_for`);
    resumed, it waits no more. Raises ScxError when the job runs already or there is nothing to run.
    """
    words = list(argv) if argv is not None else run.argv
    if not words:
        raise ScxError(f"The run {run.name} does not say how it is started.", "Start a new one.")
    if run.status().state == "running":
        raise ScxError(f"The run {run.name} is running already.", "Wait for it to end, or stop it first.")
    if words != run.argv:
        run.update(argv=words)
    before = run.status()
    for file in ("process.json", STOP):
        (run.path / file).unlink(missing_ok=True)
    message = "starting" if after is None else f"waiting for {after.name}"
    status = {"state": "running", "done": before.done, "total": before.total, "message": message}
    write_json(run.path / "status.json", status)
    with open(run.path / "job.log", "ab") as log:
        job = subprocess.Popen(
            _command(run, words if after is None else ["runs", "wait", RUN, after.name]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            **_DETACHED,
        )
    # A job that has ended already has no identity; one that fits no process tells `status` so.
    identity = identity_of(job.pid) or ProcessIdentity(job.pid, "", socket.gethostname())
    write_json(run.path / "process.json", identity._asdict())
    # Someone must ask for the exit code, else a dead job stays in the process table as long as we live.
    threading.Thread(target=job.wait, daemon=True).start()
    return job.pid


def wait_for(run: RunFolder, name: str, pause: float = 1.0) -> NoReturn:
    """Wait in this process until the run `name` beside `run` is no longer at work, however it ended, then
    become the job of `run`: a queue needs nobody to look after it, and is stopped as any job."""
    before = run.path.parent / name
    while True:
        try:
            if RunFolder.open(before).status().state != "running":
                break
        except ScxError:  # deleted meanwhile
            break
        run.write_status("running", 0, 0, f"waiting for {name}", waits_for=name)
        time.sleep(pause)
    command = _command(run, run.argv)
    if sys.platform == "win32":  # there a program cannot be replaced: it is waited for
        sys.exit(subprocess.call(command, env=child_environment()))
    os.execve(sys.executable, command, child_environment())


def queue_end(runs: Sequence[RunFolder]) -> RunFolder | None:
    """Which of some runs a new one would wait for: the one at work that no other waits for, the newest of
    several; None where nothing is at work."""
    states = {run.name: (run, run.status()) for run in runs}
    busy = {name: run for name, (run, status) in states.items() if status.state == "running"}
    waited = {str(states[name][1].more.get("waits_for", "")) for name in busy}
    ends = [run for name, run in busy.items() if name not in waited]
    return max(ends, key=lambda run: (run.path / "run.json").stat().st_mtime_ns, default=None)


def torchrun(run: RunFolder, words: Sequence[str], processes: int) -> NoReturn:
    """Become `torchrun` with so many processes of `python -m scx_core *words` on this machine.

    This process keeps its pid: who stops it stops all of them.
    """
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # After -- torchrun takes no word for an option of its own (--run would be --run-path).
    command = [sys.executable, "-P", "-m", *launcher, "-m", "--", *_command(run, words)[3:]]
    # torchrun starts its processes without -P; and one thread each, unless the user says otherwise. Asked to
    # end, it kills them after 30 s: too soon for a step of a large model and a checkpoint.
    environment = {SHUTDOWN: str(PATIENCE)} | child_environment() | {"PYTHONSAFEPATH": "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":  # there a program cannot be replaced: it is waited for
        sys.exit(subprocess.call(command, env=environment))
    os.execve(sys.executable, command, environment)


def stop(run: RunFolder) -> None:
    """Ask the job to end (SIGTERM), with a checkpoint and its status. Does nothing when it does not run.

    Outside a training, as while it reads the cells, a job ends at once, and on Windows always: the file
    `stop` tells that it was asked to; the latest checkpoint stays. Raises ScxError when the job runs on
    another computer.
    """
    process = run.process()
    if process and run.status().state == "running":
        if process.host != socket.gethostname():
            raise ScxError(f"The run {run.name} is on the computer {process.host}.", "Stop it there.")
        write_atomic(run.path / STOP, "")
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(process.pid).terminate()


def resume(run: RunFolder, *, afresh: bool = False) -> int:
    """Start the job again with its arguments; it goes on from its latest checkpoint. `afresh`: it keeps none
    and begins anew, so that how far it was says nothing. Returns the pid. Raises ScxError as `start`."""
    if afresh and run.status().state != "running":
        run.write_status("new", 0, 0)
    return start(run)


def list_runs(root: Path | str) -> list[RunFolder]:
    """All runs under `root`, by name; folders that are no runs are left out."""
    runs = []
    for file in sorted(Path(root).glob("*/run.json")):
        with contextlib.suppress(ScxError):  # one damaged folder must not hide the others
            runs.append(RunFolder.open(file.parent))
    return runs


class StopRequest:
    """Whether a signal asked this process to stop: call it to know."""

    def __init__(self) -> None:
        self.asked, self.heeded = threading.Event(), threading.Event()

    def __call__(self) -> bool:
        """Whether it asked; the caller is taken to act on it."""
        if self.asked.is_set():
            self.heeded.set()
        return self.asked.is_set()

    def heed(self) -> None:
        """The work stops in order whoever asked, so a signal that comes from now on asks for nothing new."""
        self.heeded.set()


@contextlib.contextmanager
def stop_requested() -> Iterator[StopRequest]:
    """Inside, SIGTERM and SIGINT only set the flag of the yielded `StopRequest`: a step ends in order.

    A second signal acts as it would have outside. A signal after the flag was last read must not be lost:
    it raises KeyboardInterrupt at the end. In a thread other than the main one no signal arrives, and the
    flag stays down.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        request.asked.set()
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
    if request.asked.is_set() and not request.heeded.is_set():
        raise KeyboardInterrupt("stopped")


def _command(run: RunFolder, words: Sequence[str]) -> list[str]:
    # -P: a folder called scx_core or torch.py in the current folder must not be run instead.
    here = str(run.path.resolve())
    return [sys.executable, "-P", "-m", "scx_core", *(word.replace(RUN, here) for word in words)]


def child_environment() -> dict[str, str]:
    """Our own, with this very package importable and its output unbuffered."""
    home = str(Path(scx_core.__file__).resolve().parent.parent)
    paths = [home] + [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


_DETACHED: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    _DETACHED = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
