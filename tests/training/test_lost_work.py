"""Nothing is lost: killed at random moments, on a full disk, after NaN, or started twice.

SCX_KILLS=20 sets the number of kills (default 3).
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.kills import PHASES, kill_and_resume, moments, same_result
from scx_core.errors import ScxError
from scx_core.runs import RunFolder
from scx_core.training import train
from tests.training.builders import TRAIN, in_its_own_process, open_job, same, start

KILLS = int(os.environ.get("SCX_KILLS", "3"))
SHORT = replace(TRAIN, steps=24, finetune_steps=6, checkpoint_every=4, evaluate_every=12)
ROOT = Path(__file__).resolve().parents[2]
TRAINED = """
import sys
from scx_core.errors import ScxError
from scx_core.runs import RunFolder
from scx_core.training import train
from tests.training.builders import open_job

run = RunFolder.open(sys.argv[1])
try:
    train(run, *open_job(run))
except ScxError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, model):
    run = start(tmp_path_factory.mktemp("runs"), model, config=SHORT)
    return run, train(run, *open_job(run))


def test_moments_are_seeded_in_order_and_reach_every_phase_of_a_write():
    drawn = moments(20, 72, seed=3)
    assert drawn == moments(20, 72, seed=3) != moments(20, 72, seed=4)
    assert {moment.phase for moment in drawn} == {"", *PHASES}
    steps = [moment.step for moment in drawn if moment.step >= 0]
    assert steps == sorted(steps) and steps[-1] < 71


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_killed_at_random_moments_and_in_a_write_it_ends_with_the_same_bits(tmp_path, model):
    # Both in processes of their own: bits depend on the number of threads, and on what a process did before.
    unbroken, run = (start(tmp_path / name, model, config=SHORT) for name in ("unbroken", "killed"))
    assert kill_and_resume(unbroken, open_job, 0).lives == 1
    found = kill_and_resume(run, open_job, KILLS, seed=KILLS)
    assert found.in_writes > 0 and found.lives == KILLS + 1
    assert found.kills >= found.in_writes
    assert same_result(run, unbroken)


def full_disk(error: int):
    """A `save_file` whose disk is full: it writes something, then fails as the system does."""

    def save_file(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(error, os.strerror(error))

    return save_file


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_room_keeps_the_checkpoint_and_the_run_goes_on(
    tmp_path, model, unbroken, monkeypatch, error
):
    run = start(tmp_path, model, config=SHORT)

    def fill_at_9(done, total, message):
        if message == "training" and done == 9:
            monkeypatch.setattr("safetensors.torch.save_file", full_disk(error))

    with pytest.raises(ScxError, match=r"disk is full.*\([\d.]+ \w+ are needed, [\d.]+ \w+ are free in "):
        train(run, *open_job(run), fill_at_9)
    status = run.status()
    assert status.state == "failed" and str(run.path / "checkpoints") in status.error
    assert run.latest_checkpoint().step == 8
    assert not list((run.path / "checkpoints").glob(".tmp-*"))
    monkeypatch.undo()
    assert same(train(run, *open_job(run)), unbroken[1])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB; mounting it needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here (it needs root, and Linux)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_small_disk_it_fails_with_a_message_and_goes_on_with_room(small_disk, model, unbroken):
    run = start(small_disk, model, config=SHORT)

    def fill_at_9(done, total, message):
        if message == "training" and done == 9:
            with pytest.raises(OSError, match="space"):
                (small_disk / "others").write_bytes(b"0" * 1_000_000)

    with pytest.raises(ScxError, match=r"disk is full"):
        train(run, *open_job(run), fill_at_9)
    status = run.status()
    assert status.state == "failed" and "are free in" in status.error, "said although the disk is full"
    saved = run.latest_checkpoint()
    assert saved.step == 8 and all(tensor.isfinite().all() for tensor in saved.tensors.values())
    (small_disk / "others").unlink()
    assert same(train(run, *open_job(run)), unbroken[1])


@pytest.mark.parametrize("step", [13, 25], ids=["training", "tuning"])
def test_nan_keeps_a_loadable_checkpoint_and_the_run_goes_on_without_it(tmp_path, model, unbroken, step):
    run = start(tmp_path, model, config=SHORT)
    lm, table = open_job(run)

    def spoil(done, total, message):
        if message == "training" and done == step:
            with torch.no_grad():
                lm.part(1, "mlp").dense_4h_to_h.bias[0] = float("nan")

    with pytest.raises(ScxError, match="not a number|is nan"):
        train(run, lm, table, spoil)
    assert run.status().state == "failed" and "checkpoint is kept" in run.status().error
    saved = run.latest_checkpoint()
    assert saved.step == (step // 4) * 4 and all(t.isfinite().all() for t in saved.tensors.values())
    assert same(train(run, *open_job(run)), unbroken[1])


def test_a_spoilt_state_does_not_take_the_place_of_a_good_checkpoint(tmp_path, model, monkeypatch):
    from scx_core.training.trainer_state import TrainerState

    run, tensors = start(tmp_path, model, config=SHORT), TrainerState.tensors

    def spoilt(session):
        found = tensors(session)
        return found | {"1.weights.b_dec": found["1.weights.b_dec"] * float("nan")}

    def from_5(done, total, message):
        if message == "training" and done == 5:
            monkeypatch.setattr(TrainerState, "tensors", spoilt)

    with pytest.raises(ScxError, match=r"After step 8 1\.weights\.b_dec is not finite"):
        train(run, *open_job(run), from_5)
    assert run.status().state == "failed" and run.latest_checkpoint().step == 4


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_two_launches_into_one_run_do_not_collide(tmp_path, model):
    run = start(tmp_path, model, config=SHORT)
    words = [sys.executable, "-c", TRAINED, str(run.path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(text == "" or "in use by another process" in text for text in said)
    assert "" in said, "one of them trained"
    # As with the kills: what is compared was trained in processes of their own, as the app starts them.
    alone = start(tmp_path / "alone", model, config=SHORT)
    in_its_own_process(alone)
    assert same(train(run, *open_job(run)), train(alone, *open_job(alone)))
    assert run.status().state == "done"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_the_lock_of_a_killed_training_is_stale_and_taken_over(tmp_path, model):
    run = start(tmp_path, model, config=SHORT)
    code = TRAINED.replace(
        "train(run, *open_job(run))",
        "train(run, *open_job(run), lambda done, total, message: "
        "message == 'training' and __import__('os').kill(__import__('os').getpid(), 9))",
    )
    words = [sys.executable, "-c", code, str(run.path)]
    killed = subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (run.path / "lock").read_text(), "it still names the process that is gone"
    assert run.status().state == "dead"
    with RunFolder.open(run.path).lock():
        pass
