import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from scx_core.errors import ScxError
from scx_core.runs import RunFolder, jobs, list_runs, resume, start, stop, stop_requested
from scx_core.runs.jobs import queue_end

pytestmark = pytest.mark.skipif(os.name == "nt", reason="jobs are asked to end with POSIX signals here")

JOB = """
import sys, time
from scx_core.runs import RunFolder, stop_requested
run = RunFolder.open(sys.argv[1])
print("args", sys.argv[2:], "stdin", repr(sys.stdin.read()), flush=True)
begin = len(run.metrics())
with run.lock(), stop_requested() as asked:
    for step in range(begin, 2000):
        run.log({"step": step})
        run.write_status("running", step + 1, 2000)
        if asked():
            run.write_status("stopped", step + 1, 2000)
            break
        time.sleep(0.01)
"""


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunFolder:
    """A run whose job is a stand-in for `python -m scx_core`: a package of the same name on the path."""
    package = tmp_path / "stand_in" / "scx_core"
    package.mkdir(parents=True)
    real = Path(jobs.scx_core.__file__).parent
    (package / "__init__.py").write_text(f"__path__.append({str(real)!r})\n__version__ = '0'\n")
    (package / "__main__.py").write_text(JOB)
    monkeypatch.setattr(jobs.scx_core, "__file__", str(package / "__init__.py"))
    made = RunFolder.create(tmp_path / "runs", "train", {})
    yield made
    process = made.process()
    if process and made.status().state == "running":
        os.kill(process.pid, signal.SIGKILL)


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_job_is_started_stopped_and_resumed(run):
    pid = start(run, [jobs.RUN, "--steps", "10; rm -rf /"])
    assert run.status().state == "running"
    wait_for(lambda: len(run.metrics()) > 3)
    assert os.getsid(pid) == pid != os.getsid(0), "a session of its own"
    with pytest.raises(ScxError, match="running already"):
        resume(run)
    stop(run)
    wait_for(lambda: run.status().state == "stopped")
    first = len(run.metrics())
    again = RunFolder.open(run.path)
    resume(again)
    wait_for(lambda: len(run.metrics()) > first)
    assert [record["step"] for record in run.metrics()] == list(range(len(run.metrics())))
    stop(again)
    wait_for(lambda: run.status().state == "stopped")
    log = (run.path / "job.log").read_text()
    assert log.count("args ['--steps', '10; rm -rf /'] stdin ''") == 2


def test_a_job_that_is_stopped_before_it_listens_is_stopped_and_not_dead(run):
    start(run, [jobs.RUN])
    stop(run)  # Python itself is still starting
    wait_for(lambda: run.status().state == "stopped")
    pid = resume(run)
    wait_for(lambda: len(run.metrics()) > 3)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: run.status().state == "dead")


def test_a_job_that_begins_anew_does_not_show_how_far_it_was(run):
    run.update(argv=[jobs.RUN])
    run.write_status("stopped", 75, 100)
    resume(run, afresh=True)
    assert run.status().done == 0
    stop(run)
    wait_for(lambda: run.status().state == "stopped")


def test_a_killed_job_is_dead_leaves_no_zombie_and_resumes(run):
    pid = start(run, [jobs.RUN])
    wait_for(lambda: len(run.metrics()) > 3)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: run.status().state == "dead")
    wait_for(lambda: not Path(f"/proc/{pid}").exists() if sys.platform == "linux" else True)
    stop(run)  # nothing to stop, nothing happens
    before = len(run.metrics())
    resume(run)
    wait_for(lambda: len(run.metrics()) > before)


def test_a_job_that_fails_at_once_is_dead_with_its_last_words(run):
    start(run, ["/nowhere"])
    wait_for(lambda: run.status().state == "dead")
    assert "There is no file /nowhere/run.json" in run.status().error


def test_a_job_outlives_the_program_that_started_it(run):
    code = textwrap.dedent(
        f"""
        import sys
        from scx_core.runs import RunFolder, jobs
        jobs.scx_core.__file__ = {jobs.scx_core.__file__!r}
        print(jobs.start(RunFolder.open(sys.argv[1]), [jobs.RUN]))
        """
    )
    parent = subprocess.run(
        [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True, timeout=60
    )
    wait_for(lambda: len(run.metrics()) > 3)
    assert run.status().pid == int(parent.stdout)
    stop(run)
    wait_for(lambda: run.status().state == "stopped")


def test_a_run_without_arguments_cannot_be_resumed(run):
    with pytest.raises(ScxError, match="how it is started"):
        resume(run)


def test_runs_are_listed_by_name_and_damaged_ones_left_out(tmp_path):
    assert list_runs(tmp_path / "none") == []
    for name in ("b", "a", "broken"):
        RunFolder.create(tmp_path, "train", {}, name=name)
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "empty").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["a", "b"]


@pytest.fixture
def interruptible():
    """A shell that starts tests in the background lets them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_sets_the_flag_and_the_second_acts_as_before(interruptible):
    with pytest.raises(KeyboardInterrupt), stop_requested() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_nobody_looked_for_is_not_lost():
    with pytest.raises(KeyboardInterrupt, match="stopped"), stop_requested() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(ScxError, match="the first"), stop_requested():
        signal.raise_signal(signal.SIGTERM)
        raise ScxError("the first")


def test_a_run_that_waits_begins_when_the_other_has_ended(tmp_path):
    """Two real processes: the second becomes its job, with the same pid, once the first is over."""
    first = RunFolder.create(tmp_path, "train", {}, "first")
    second = RunFolder.create(tmp_path, "train", {}, "second")
    with first.lock():
        first.write_status("running", 1, 2)
        pid = start(second, ["runs", "list", "--runs", str(tmp_path)], after=first)
        until = time.monotonic() + 60
        while not second.status().more and time.monotonic() < until:
            time.sleep(0.1)
        waiting = second.status()
        assert waiting.message == "waiting for first" and waiting.pid == pid
        assert queue_end([first, second]).name == "second"
        first.write_status("done", 2, 2)
    while second.status().state == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert "second" in (second.path / "job.log").read_text(), "it ran what it was asked to"
    assert queue_end([first, second]) is None
