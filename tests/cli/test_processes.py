"""`scx train --processes 2`: torchrun takes over, SIGTERM to it ends all in order."""

import os
import signal
import sys
import time

import pytest

from scx_core.cli import main
from scx_core.runs import RunFolder, list_runs
from scx_core.runs.ranks import ranks_of
from tests.cli.conftest import call

SHORT = ["--k", "4", "--warmup", "1", "--evaluate-every", "5000", "--device", "cpu"]


def test_torchrun_is_called_with_the_runs_own_words(files, monkeypatch, tmp_path):
    seen = {}

    def execve(path, words, environment):
        seen.update(path=path, words=words, environment=environment)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SystemExit):
        main(["train", "--run", str(files.run), "--processes", "3", "--json", str(tmp_path / "out.json")])
    assert seen["words"][:3] == [sys.executable, "-P", "-m"]
    after = seen["words"].index("--")
    assert "--nproc-per-node=3" in seen["words"][:after]
    own = ["scx_core", "train", "--run", str(files.run.resolve()), "--json", str(tmp_path / "out.json")]
    assert seen["words"][after + 1 :] == own
    assert seen["environment"]["PYTHONSAFEPATH"] == "1", "a folder called scx_core is not run instead"
    assert int(seen["environment"]["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) > 300, (
        "a step and a checkpoint take time"
    )


@pytest.mark.skipif(os.name == "nt", reason="stopped with POSIX signals")
def test_sigterm_to_the_launcher_stops_all_at_one_step(files, tmp_path):
    where = ["--runs", tmp_path / "runs", "--name", "two", "--steps", "4000", "--processes", "2"]
    call("train", *files.data, *files.model, *SHORT, *where, "--detach", tmp_path)
    (run,) = list_runs(tmp_path / "runs")
    launcher = run.process().pid  # nothing else has written who it is yet
    wait_for(lambda: run.status().done >= 10 or run.status().state != "running", run)
    assert len(ranks_of(run)) == 2, (run.path / "job.log").read_text()
    os.kill(launcher, signal.SIGTERM)
    wait_for(lambda: run.status().state != "running", run)
    status = run.status()
    assert status.state == "stopped" and run.latest_checkpoint().step == status.done
    wait_for(lambda: {rank.state for rank in ranks_of(run)} == {"ended"}, run)
    assert [rank.step for rank in ranks_of(run)] == [status.done] * 2


def wait_for(condition, run: RunFolder, seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (run.path / "job.log").read_text()
        time.sleep(0.05)
