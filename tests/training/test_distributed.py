"""Two processes at one training, by torchrun and gloo: the curve of one process, resumed either way.

Tolerance: 2e-5, relative (absolute below 1), on every figure of the curve. Sums in another order differ by
about 1e-7 in the first step; a token more or less above a cut, and Adam's division, make that grow. Where
each process trains its own layers nothing is summed in another order: the weights are the same bit for bit.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.runs.ranks import ranks_of
from scx_core.training import train
from scx_core.training.processes.distributed import ALONE, Team
from scx_core.transcoders import load_set
from tests.training.builders import open_job, same, steady
from tests.training.shared_runs import CASES, begin, curve_near, stopped_at_6, weights_near
from tests.training.test_best import MEASURED, measured_as

if not torch.distributed.is_available():
    pytest.skip("this PyTorch is not distributed", allow_module_level=True)
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")


def launch(root: Path, timeout: float = 250) -> subprocess.CompletedProcess:
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "tests/training/two_ranks.py"]
    return subprocess.run(
        [sys.executable, "-m", *words, str(root)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory, model, one_thread):
    """All runs that two processes train, in one launch."""
    root = tmp_path_factory.mktemp("together")
    runs = {case: begin(root, model, case, case) for case in CASES}
    for case in ("batchtopk", "layers"):
        runs[f"{case} stopped"] = begin(root, model, f"{case} stopped", case, stop=6)
        runs[f"{case} begun by one"] = begin(root, model, f"{case} begun by one", case)
        stopped_at_6(runs[f"{case} begun by one"])
    # The 16 steps of single layers are over then.
    runs["tuning stopped"] = begin(root, model, "tuning stopped", "batchtopk", stop=17)
    runs["best"] = begin(root, model, "best", "best", planned=0)
    runs["nan"] = begin(root, model, "nan", "layers", nan=6)
    done = launch(root)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model, one_thread):
    root = tmp_path_factory.mktemp("alone")
    runs = {case: begin(root, model, case, case) for case in CASES}
    return {case: (run, train(run, *open_job(run))) for case, run in runs.items()}


@pytest.mark.parametrize("case", [case for case in CASES if case != "layers"])
def test_two_processes_follow_the_curve_of_one(together, alone, case):
    run, (other, made) = together[case], alone[case]
    assert run.status().state == "done"
    curve_near(run, other)
    weights_near(load_set(run.path / "transcoders"), made)


def test_layers_shared_out_give_the_same_bits(together, alone):
    run, (other, made) = together["layers"], alone["layers"]
    for one, two in zip(run.metrics(), other.metrics(), strict=True):
        for name in {"step", "loss", "fvu", "l0", "dead"} & two.keys():
            assert one[name] == two[name], (two["step"], name)
    curve_near(run, other)
    assert same(load_set(run.path / "transcoders"), made)


@pytest.mark.parametrize("case", ["batchtopk", "layers"])
def test_begun_by_one_and_ended_by_two(together, alone, case):
    run, (other, made) = together[f"{case} begun by one"], alone[case]
    assert run.status().state == "done"
    curve_near(run, other)
    weights_near(load_set(run.path / "transcoders"), made)


@pytest.mark.parametrize("case", ["batchtopk", "layers"])
def test_stopped_at_one_step_and_ended_by_one(together, alone, case):
    run, (other, made) = together[f"{case} stopped"], alone[case]
    status = run.status()
    assert (status.state, status.done) == ("stopped", 7), "one of them was asked after step 6"
    assert run.latest_checkpoint().step == 7
    assert [(rank.state, rank.step) for rank in ranks_of(run)] == [("ended", 7)] * 2
    ended = train(run, *open_job(run))
    assert ranks_of(run) == [], "one process keeps no file of its own"
    curve_near(run, other)
    weights_near(ended, made)


def test_the_steps_of_all_layers_together_stop_at_one_step_too(together, alone):
    run, (other, made) = together["tuning stopped"], alone["batchtopk"]
    assert (run.status().state, run.status().done) == ("stopped", 18)
    ended = train(run, *open_job(run))
    curve_near(run, other)
    weights_near(ended, made)


def test_all_agree_on_the_best_checkpoint_and_end_with_it(together, tmp_path, model):
    run, other = together["best"], begin(tmp_path, model, "alone", "best")
    with measured_as(*MEASURED):
        made = train(other, *open_job(other))
    assert list(run.scores()) == list(other.scores()) == [6, 12] and made.meta["step"] == 6
    assert same(load_set(run.path / "transcoders"), made)


def test_every_process_says_how_far_it_is(together):
    ranks = ranks_of(together["batchtopk"])
    assert [(rank.rank, rank.state, rank.step, rank.device) for rank in ranks] == [
        (0, "ended", 20, "cpu"),
        (1, "ended", 20, "cpu"),
    ]
    assert all(rank.memory > 1e7 and rank.tokens_per_second > 0 for rank in ranks)


def test_nan_in_one_process_ends_all_with_the_message(together, model, alone):
    run = together["nan"]
    assert run.status().state == "failed" and "loss of layer 1 is nan at step 6" in run.status().error
    assert run.latest_checkpoint().step == 4
    assert {rank.state for rank in ranks_of(run)} == {"failed"}
    assert same(train(run, *open_job(run)), alone["layers"][1])


def test_a_process_that_dies_ends_the_others_with_a_message_and_the_run_goes_on_to_the_same_bits(
    tmp_path, model, together
):
    run = begin(tmp_path, model, "dies", "batchtopk", die=6)
    since = time.monotonic()
    done = launch(tmp_path)
    assert done.returncode != 0 and time.monotonic() - since < 120
    assert run.status().state == "failed"
    assert "Another process of this training has ended" in run.status().error
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rank 0: ")]
    assert "Another process of this training has ended" in line and "start the run again" in line
    assert [rank.state for rank in ranks_of(run)] == ["failed", "dead"]
    assert run.latest_checkpoint().step == 4
    (run.path / "die").unlink()
    assert launch(tmp_path).returncode == 0
    same_as = load_set(together["batchtopk"].path / "transcoders")
    assert same(load_set(run.path / "transcoders"), same_as), "two processes again: not a bit differs"
    assert steady(run.metrics()) == steady(together["batchtopk"].metrics())


def test_shares_cover_everything_once():
    for n, size in ((7, 3), (2, 2), (16, 5)):
        teams = [Team(rank, size) for rank in range(size)]
        assert [i for team in teams for i in range(n)[team.part(n)]] == list(range(n))
    assert [team.own(3) for team in (Team(0, 2), Team(1, 2))] == [[0], [1, 2]]
    with pytest.raises(ScxError, match="3 processes cannot share out 2 layers"):
        Team(0, 3).own(2)
    assert ALONE.leads and ALONE.own(2) == [0, 1] and ALONE.text("x") == "x"


@dataclass(frozen=True)
class StoppedByAnother(Team):
    """Number 1 of two, without the other: asked to stop a moment before the signal comes here."""

    questions: list[bool] = field(default_factory=list)

    def total(self, values):
        return values

    def gathered(self, values_N):
        return values_N

    def led(self, tensors):
        pass

    def text(self, mine):
        return mine

    def meet(self):
        pass

    def collected(self, tensors):
        return {}

    def any(self, flag):
        self.questions.append(flag)
        if len(self.questions) == 1:
            return flag  # whether the weights fit into memory
        assert self.questions == [False, False]
        signal.raise_signal(signal.SIGTERM)
        return True


def test_a_signal_that_comes_when_all_stop_already_is_no_failure(tmp_path, model, monkeypatch):
    room = sys.modules["scx_core.training.train"]
    monkeypatch.setattr(room, "share", lambda team, folder: None)  # the other is not there
    run = begin(tmp_path, model, "late", "batchtopk")
    try:
        assert train(run, *open_job(run), team=StoppedByAnother(rank=1, size=2)) is None
    except KeyboardInterrupt:  # which would end pytest itself
        pytest.fail("the late signal counted as one that nobody had heeded")
    (rank,) = ranks_of(run)
    assert rank.state == "ended", rank
