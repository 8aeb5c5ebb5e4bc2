"""Computers that share no disk: what is sent to them; and a process that does not answer in time."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.training.processes import hosts
from scx_core.training.processes.distributed import patience

if not torch.distributed.is_available():
    pytest.skip("this PyTorch is not distributed", allow_module_level=True)
ROOT = Path(__file__).resolve().parents[2]
RUN = {"kind": "train", "config": {"steps": 4}, "provenance": {"seed": 0}}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """Folders of two processes after `hosts_ranks.py`."""
    root = tmp_path_factory.mktemp("hosts")
    first, second = root / "0" / "run", root / "1" / "run"
    write_json(first / "run.json", RUN | {"argv": ["train"]})
    (first / "tokens").mkdir()
    (first / "tokens" / "ids.bin").write_bytes(os.urandom(3 * 2**20))
    (first / "tokens" / "empty.npy").touch()
    for name in ("checkpoints/step-000004.json", "ranks/rank-00.json", "lock", "job.log"):
        write_json(first / name, name)
    write_json(second / "run.json", RUN)
    write_json(second / "checkpoints" / "step-000002.json", "of a run before")
    write_json(second / "ranks" / "rank-01.json", "its own")
    jobs, meeting = [], {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for rank in range(2):  # each the first process of a computer of its own
        where = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2"} | meeting
        words = [sys.executable, "tests/training/hosts_ranks.py", str(root)]
        own = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SCX_PATIENCE": "2"} | where
        job = subprocess.Popen(words, cwd=ROOT, env=own, stderr=subprocess.PIPE, text=True)
        jobs.append(job)
    for job in jobs:
        assert job.wait(120) == 0, job.communicate()[1][-2000:]
    return root


def test_what_the_others_need_is_sent_and_nothing_else(shared):
    first, second = files_of(shared / "0" / "run"), files_of(shared / "1" / "run")
    sent = {"run.json", "tokens/ids.bin", "tokens/empty.npy", "checkpoints/step-000008.json"}
    assert set(second) == sent | {"ranks/rank-01.json"}, "and checkpoints that are not there are gone"
    assert all(second[name] == first[name] for name in sent)
    assert not list(shared.rglob(".seen-*"))


def test_a_process_that_does_not_answer_in_time_is_told_so(shared):
    said = [json.loads((shared / f"said-{rank}.json").read_text()) for rank in range(2)]
    assert "has not answered for 2 s (this is number 0 of 2)" in said[0] and "SCX_PATIENCE" in said[0]
    assert "\n" not in said[0]
    assert "Another process of this training has ended" in said[1]


def test_a_run_of_the_same_name_on_another_computer_is_left_alone(tmp_path):
    write_json(tmp_path / "run.json", RUN)
    hosts._check_same_run(tmp_path, hosts._run(tmp_path))
    with pytest.raises(ScxError, match="is another run on this computer"):
        hosts._check_same_run(tmp_path, hosts.to_json_text({"config": {"steps": 5}, "provenance": {}}))


@pytest.mark.parametrize("given", ["x", "0", "-3", "inf", "nan"])
def test_a_patience_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("SCX_PATIENCE", given)
    with pytest.raises(ScxError, match="SCX_PATIENCE is"):
        patience()
