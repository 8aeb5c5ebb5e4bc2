"""A run begun on another computer, or in a container that is gone: the lock says whether it still lives."""

from pathlib import Path

import pytest

from scx_core.runs import RunFolder, write_json
from scx_core.runs.jobs import start
from scx_core.runs.processes import identity_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path, "train", {"steps": 10}, argv=["--help"])
    process = identity_of()._replace(host="a-container-that-is-gone", pid=7)
    record = {"state": "running", "done": 3, "total": 10, "message": "training"}
    write_json(made.path / "status.json", record | {"process": process._asdict()})
    return made


def test_it_runs_as_long_as_it_holds_the_lock(run):
    with run.lock():
        assert run.status().state == "running"
    assert (run.path / "lock").exists() and run.status().state == "dead"


def test_a_run_that_died_there_is_started_again_here(run):
    assert run.status().state == "dead"
    assert start(run) > 0


def test_one_that_was_only_started_there_is_taken_to_live(run):
    process = identity_of()._replace(host="a-cluster-node", pid=7)
    write_json(run.path / "status.json", {"state": "running", "done": 0, "total": 0, "message": "starting"})
    write_json(run.path / "process.json", process._asdict())
    assert run.status().state == "running"


def test_a_second_launch_of_a_build_leaves_the_first_ones_status(tmp_path):
    from scx_core.build import BuildConfig, build, new_build
    from scx_core.errors import ScxError

    made = new_build(BuildConfig(data="embedded"), "mine", tmp_path)
    made.write_status("running", 3, 10, "training the model")
    with made.lock(), pytest.raises(ScxError, match="in use by another process"):
        build(made)
    assert (made.status().state, made.status().message) == ("running", "training the model")
