import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scx_core.errors import ScxError
from scx_core.runs import RunFolder, option, runs_root, write_json
from scx_core.runs.files import is_portable, portable
from scx_core.runs.processes import ProcessIdentity, identity_of, is_alive


@dataclass(frozen=True)
class Settings:
    steps: int = option(10, "Steps")


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path, "train", Settings(), name="my run")


def dead_process() -> ProcessIdentity:
    """The identity of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    process.communicate(b"\n")
    assert identity is not None
    return identity


def test_a_run_reads_back_as_it_was_made(run):
    again = RunFolder.open(run.path)
    assert (again.name, again.kind, again.config) == ("my run", "train", {"steps": 10})
    assert again.provenance["tool"]["name"] == "scX"
    assert again.status().state == "new" and again.metrics() == [] and again.latest_checkpoint() is None


def test_names_count_up_and_never_collide(tmp_path):
    made = [RunFolder.create(tmp_path, "train", {}).name for _ in range(3)]
    assert made == ["train-001", "train-002", "train-003"]
    with pytest.raises(ScxError, match="train-001"):
        RunFolder.create(tmp_path, "train", {}, name="train-001")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 81, "a\x00b", "C:\\x"])
def test_names_that_are_no_folder_names_are_refused(tmp_path, name):
    with pytest.raises(ScxError, match="cannot be the name of a run"):
        RunFolder.create(tmp_path, "train", {}, name=name)
    assert list(tmp_path.iterdir()) == []


_DEVICES = ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]
_IN_ANY_CAPITALS = st.sampled_from(_DEVICES).flatmap(
    lambda name: st.tuples(*(st.sampled_from(sorted({c, c.upper()})) for c in name)).map("".join)
)
_LETTERS = st.text("ab9 ._-", max_size=6)


def _windows_keeps(name: str) -> bool:
    """Microsoft's rule, written anew: a device's name before the first dot, or an end that is dropped."""
    return bool(
        re.match(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\.|\Z)", name) or re.search(r"[. ]\Z", name)
    )


@given(_IN_ANY_CAPITALS, st.sampled_from(["", " ", "."]), _LETTERS)
def test_a_name_that_windows_keeps_for_itself_is_refused_and_others_are_not(device, between, rest):
    name = device + between + rest
    with tempfile.TemporaryDirectory() as folder:
        if _windows_keeps(name):
            with pytest.raises(ScxError, match="cannot be the name of a run"):
                RunFolder.create(folder, "train", {}, name=name)
            assert not any(Path(folder).iterdir())
        else:
            assert RunFolder.create(folder, "train", {}, name=name).name == name


@given(st.one_of(st.text(max_size=12), st.tuples(_IN_ANY_CAPITALS, _LETTERS).map("".join)))
def test_a_portable_name_is_one_that_windows_takes(name):
    made = portable(name)
    assert made == "" or (is_portable(made) and not _windows_keeps(made))
    assert portable(made) == made
    if not _windows_keeps(name):
        assert not is_portable(name) or made == name


def test_two_runs_do_not_differ_in_capitals_only(tmp_path):
    RunFolder.create(tmp_path, "train", {}, name="Mine")
    with pytest.raises(ScxError, match="capitals only"):
        RunFolder.create(tmp_path, "train", {}, name="mINE")
    assert [path.name for path in tmp_path.iterdir()] == ["Mine"]
    (tmp_path / "TRAIN-001").mkdir()
    assert RunFolder.create(tmp_path, "train", {}).name == "train-002"


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{}", '{"kind": "train"}', "{", '{"kind": 3, "config": {}}', '{"kind": "train", "config": []}',
        '{"kind": "train", "config": {}, "argv": 3}', '{"kind": "train", "config": {}, "provenance": "x"}',
    ],
)  # fmt: skip
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ScxError):
        RunFolder.open(tmp_path)


def test_metrics_after_a_step_are_dropped(run):
    run.log({"note": "start"})
    for step in range(5):
        run.log({"step": step, "loss": 1.0 / (step + 1)})
    run.truncate_metrics(2)
    assert [record.get("step") for record in run.metrics()] == [None, 0, 1, 2]
    run.log({"step": 3})
    assert run.metrics()[-1] == {"step": 3}


def test_checkpoints_keep_the_newest_two_and_give_tensors_back(run):
    for step in (1, 20, 300):
        tensors = {"w": torch.full((2, 3), float(step)).T, "rng": torch.get_rng_state()}
        run.save_checkpoint(step, tensors, {"lr": step / 7})
    kept = sorted(file.name for file in (run.path / "checkpoints").iterdir())
    assert kept == [f"step-{n:06d}.{kind}" for n in (20, 300) for kind in ("json", "safetensors")]
    last = run.latest_checkpoint()
    assert (last.step, last.state) == (300, {"lr": 300 / 7})
    assert torch.equal(last.tensors["w"], torch.full((3, 2), 300.0))
    assert torch.equal(last.tensors["rng"], torch.get_rng_state())


def test_tensors_of_a_checkpoint_begin_where_new_ones_do(run):
    """Where a matrix begins decides in which order some products sum, so in the last bits of what goes on."""
    run.save_checkpoint(1, {f"{n}": torch.randn(33, 7 + n) for n in range(6)}, {})
    tensors = run.latest_checkpoint().tensors.values()
    assert {tensor.data_ptr() % 64 for tensor in tensors} == {0}


def test_the_best_checkpoint_stays_beside_the_newest(run):
    assert run.best_checkpoint() is None and run.scores() == {}
    scores = {1: None, 2: 3.0, 3: 2.0, 4: 2.0, 5: float("nan"), 6: None, 7: 2.5}
    for step, score in scores.items():
        run.save_checkpoint(step, {"w": torch.full((2,), float(step))}, {}, score=score)
    kept = sorted(int(file.stem[5:]) for file in (run.path / "checkpoints").glob("*.json"))
    assert kept == [3, 6, 7]
    assert list(run.scores().items()) == [(3, 2.0), (7, 2.5)]
    best = run.best_checkpoint()
    assert (best.step, best.score, best.tensors["w"].tolist()) == (3, 2.0, [3.0, 3.0])
    assert (run.latest_checkpoint().step, run.latest_checkpoint().score) == (7, 2.5)
    (run.path / "checkpoints" / "step-000003.safetensors").write_bytes(b"half")
    assert run.best_checkpoint().step == 7, "one that is not whole is no checkpoint"
    run.save_checkpoint(8, {"w": torch.zeros(2)}, {}, score=1.0)
    run.save_checkpoint(9, {"w": torch.zeros(2)}, {})
    kept = sorted(int(file.stem[5:]) for file in (run.path / "checkpoints").glob("*.json"))
    assert kept == [8, 9]


def test_half_written_checkpoints_do_not_count(run):
    for step in (1, 2):
        run.save_checkpoint(step, {"w": torch.ones(4) * step}, {"step": step})
    folder = run.path / "checkpoints"
    tensors, state = folder / "step-000002.safetensors", folder / "step-000002.json"
    whole = tensors.read_bytes()
    for cut in (0, 5, len(whole) - 1):
        tensors.write_bytes(whole[:cut])
        assert run.latest_checkpoint().step == 1
    tensors.write_bytes(whole)
    assert run.latest_checkpoint().step == 2
    text = state.read_text()
    for broken in ("", text[:-4], text.replace('"step": 2', '"step": 3')):
        state.write_text(broken)
        assert run.latest_checkpoint().step == 1
    state.unlink()
    assert run.latest_checkpoint().step == 1
    run.save_checkpoint(3, {"w": torch.ones(1)}, {})
    assert not tensors.exists(), "tensors without a state are cleared away"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_kill_at_any_instant_leaves_a_loadable_checkpoint(run):
    code = (
        "import sys, torch\n"
        "from scx_core.runs import RunFolder\n"
        "run = RunFolder.open(sys.argv[1])\n"
        "last = run.latest_checkpoint()\n"
        "step = last.step if last else 0\n"
        "def save(step):\n"
        "    run.save_checkpoint(step, {'w': torch.full((200_000,), float(step))}, {'step': step})\n"
        "save(step + 1)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    step += 1\n"
        "    save(step + 1)\n"
    )
    chance, reached = random.Random(0), 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(chance.random() * 0.05)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        last = run.latest_checkpoint()
        assert last is not None and last.step > reached and last.state["step"] == last.step
        assert torch.equal(last.tensors["w"], torch.full((200_000,), float(last.step)))
        reached = last.step


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on the size of a file is Linux' own")
def test_a_disk_that_is_full_keeps_the_last_good_checkpoint(run):
    run.save_checkpoint(1, {"w": torch.ones(4)}, {})
    code = (
        "import resource, sys, torch\n"
        "from scx_core.errors import ScxError\n"
        "from scx_core.runs import RunFolder\n"
        "run = RunFolder.open(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    run.save_checkpoint(2, {'w': torch.ones(1_000_000)}, {})\n"
        "except ScxError as error:\n"
        "    print(error)\n"
    )
    words = [sys.executable, "-c", code, str(run.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "step-000002.safetensors could not be written: the disk is full" in done.stdout
    assert run.latest_checkpoint().step == 1
    assert len(list((run.path / "checkpoints").iterdir())) == 2


def test_the_lock_is_exclusive_and_says_who_holds_it(run):
    with run.lock():
        taken = pytest.raises(ScxError, match=rf"my run is in use by another process .*{os.getpid()}")
        with taken, RunFolder.open(run.path).lock():
            pass
    with run.lock():
        pass


def test_the_lock_of_a_killed_process_is_free(run):
    code = (
        "import sys\n"
        "from scx_core.runs import RunFolder\n"
        "with RunFolder.open(sys.argv[1]).lock():\n"
        "    print('locked', flush=True)\n"
        "    input()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline().strip() == b"locked"
    with pytest.raises(ScxError, match=str(holder.pid)), run.lock():
        pass
    holder.kill()
    holder.communicate()
    with run.lock():
        pass


def test_a_lock_file_that_names_a_living_process_by_chance_is_free(run):
    write_json(run.path / "lock", identity_of()._replace(birth="before")._asdict())
    with run.lock():
        pass


def test_status_tells_speed_and_time_left(run, monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for done in (0, 50, 100):
        run.write_status("running", done, 500, "training", l0=16)
    status = RunFolder.open(run.path).status()
    assert (status.state, status.done, status.total, status.message) == ("running", 100, 500, "training")
    assert status.per_second == pytest.approx(5.0) and status.eta_s == pytest.approx(80.0)
    assert status.pid == os.getpid() and status.more == {"l0": 16}


def test_status_is_written_seldom_while_running_and_always_at_the_end(run):
    for done in range(100):
        run.write_status("running", done, 100)
    assert run.status().done < 99
    run.write_status("running", 99, 100, "measuring")
    assert run.status().message == "measuring", "what is being done now is said at once"
    run.write_status("failed", 99, 100, error="the disk is full")
    status = run.status()
    assert (status.state, status.done, status.error, status.pid) == ("failed", 99, "the disk is full", None)
    with pytest.raises(ValueError, match="asleep"):
        run.write_status("asleep", 0, 1)


def test_a_running_status_whose_process_is_gone_is_dead(run):
    run.write_status("running", 3, 10)
    (run.path / "job.log").write_bytes(b"step 1\rstep 2\nMemoryError: too much\n\n")
    record = {"state": "running", "done": 3, "total": 10}
    reused = identity_of()._replace(birth="long ago")
    for process in (dead_process(), reused):
        write_json(run.path / "status.json", record | {"process": process._asdict()})
        status = run.status()
        assert (status.state, status.done, status.error) == ("dead", 3, "MemoryError: too much")


@pytest.mark.skipif(os.name == "nt", reason="no zombies there")
def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    assert is_alive(identity)
    process.kill()
    deadline = time.monotonic() + 10
    while is_alive(identity) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(identity)
    assert process.returncode is None, "nobody has asked for its exit code, so it is still a zombie"
    process.wait()
    process.stdin.close()


def test_runs_live_here_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCX_RUNS", raising=False)
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("SCX_RUNS", "")
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("SCX_RUNS", "/data/runs")
    assert runs_root() == Path("/data/runs").absolute()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", "{}", '{"state": 3}', '{"state": "nonsense"}', '{"state": "done", "done": "x"}',
     '{"state": "done", "total": []}', '{"state": "done", "more": 3}', '{"state": "done", "message": 1}',
     '{"state": "running", "process": [1]}', '{"state": "running", "process": {"pid": "1"}}',
     '{"state": "running", "process": {"a": 1}}', '{"state": "running", "process": {"pid": 1}}'],
)  # fmt: skip
def test_a_damaged_status_is_named(tmp_path, content):
    run = RunFolder.create(tmp_path, "train", {})
    (run.path / "status.json").write_text(content)
    with pytest.raises(ScxError, match=r"status\.json") as found:
        run.status()
    assert found.value.remedy
