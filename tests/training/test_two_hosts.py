"""Two computers, as two network namespaces of this one, joined by torchrun's rendezvous.

They reach each other by a virtual cable alone; the second has an empty disk where the first has its runs.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scx_core.runs.ranks import ranks_of
from scx_core.training import train
from scx_core.transcoders import load_set
from tests.training.builders import open_job
from tests.training.shared_runs import begin, curve_near, stopped_at_6, weights_near

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = "10.213.7.1", "10.213.7.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[list[str]]:
    """Two of them, joined; skipped where they may not be made."""
    if not torch.distributed.is_available() or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("no torch.distributed, ip or unshare here")
    names = [f"scx{os.getpid()}{letter}" for letter in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "eth9",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "eth9",
            "netns",
            names[1],
        )
        for name, address in zip(names, (FIRST, SECOND), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth9")
            for link in ("lo", "eth9"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces may not be made here: {error.stderr.decode().strip()[:100]}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start_host(names: list[str], number: int, run: Path) -> subprocess.Popen:
    """One computer's torchrun; the second has an empty disk where the first has its runs."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    words += [f"--rdzv-endpoint={FIRST}:29713", "--rdzv-backend=c10d", "--rdzv-id=test"]
    # that this address is the first one's own cannot be told from the computer's name here
    words += [f"--rdzv-conf=is_host={1 - number}", f"--local-addr={(FIRST, SECOND)[number]}"]
    job = f"exec {' '.join(words)} tests/training/two_hosts.py {run}"
    if number:
        job = f"mount -t tmpfs none {run.parent} && mount -t tmpfs none /dev/shm && {job}"
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth9"}
    return subprocess.Popen(
        ["ip", "netns", "exec", names[number], "unshare", "--mount", "sh", "-c", job],
        cwd=ROOT,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(hosts: list[subprocess.Popen], timeout: float = 200) -> list[str]:
    """What they said until they ended."""
    try:
        return [host.communicate(timeout=timeout)[0] for host in hosts]
    finally:
        for host in hosts:
            host.kill()


def test_a_run_of_one_process_is_ended_by_two_computers_without_a_common_disk(
    namespaces, tmp_path, model, one_thread
):
    run, other = (begin(tmp_path / name, model, "run", "batchtopk") for name in ("shared", "alone"))
    made = train(other, *open_job(other))
    stopped_at_6(run)
    hosts = [start_host(namespaces, number, run.path) for number in range(2)]
    said = end(hosts)
    assert [host.returncode for host in hosts] == [0, 0], said
    assert "rank 0: sees the run: True" in said[0] and "rank 1: sees the run: False" in said[1]
    assert run.status().state == "done"
    curve_near(run, other)
    weights_near(load_set(run.path / "transcoders"), made)
    assert [rank.rank for rank in ranks_of(run)] == [0], "the other one's record is on its own disk"
