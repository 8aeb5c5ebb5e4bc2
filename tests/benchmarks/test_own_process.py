"""What is measured apart: processes of their own, laps as they end, a made-up model that another wrote."""

import json
import mmap
import os
from pathlib import Path
from unittest import mock

import pytest
import torch

from scx_core.bench import real_size
from scx_core.bench.machine import Stopwatch, in_own_process
from scx_core.bench.random_410m import made_model
from scx_core.bench.random_410m.made_model import ATLAS, MODEL, OTHER_SET, SET, write_apart
from scx_core.bench.tracing import bench_410m
from scx_core.cli.bench import summary
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.transcoders import load_set
from tests.tiny import tiny_table, tiny_tokenizer

SMALL = {"vocab_size": 500, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(made_model, "PYTHIA_410M", made_model.PYTHIA_410M | SMALL)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes a module of these lines that a process of its own can run."""

    def made(*lines):
        (tmp_path / "measured_apart.py").write_text("\n".join(lines))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
        return "measured_apart"

    return made


def test_laps_of_another_process_are_told_while_it_runs(script, tmp_path):
    """It goes on only when its lap has been told."""
    name = script(
        "import sys, time, pathlib",
        "from scx_core.bench.machine import Lap, tell_lap",
        "print('a library speaks')",
        "tell_lap(Lap('first', 1.0, 2.0, 0.5))",
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)",
        "print('{\"found\": 7}')",
    )
    told = []

    def tell(lap):
        told.append(lap)
        (tmp_path / "go on").touch()

    assert in_own_process(name, tmp_path / "go on", told=tell) == {"found": 7}
    assert [tuple(lap) for lap in told] == [("first", 1.0, 2.0, 0.5)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, perhaps for want of memory"),
        ("import sys; sys.exit(3)", "Exit code 3"),
        ('print(\'{"lap": {"what": "a", "wall_s": 0, "cpu_s": 0, "peak_gib": 0}}\')', "no words"),
    ],
)
def test_how_a_process_ended_is_said(script, line, said):
    with pytest.raises(ScxError, match=said):
        in_own_process(script(line))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be counted anew here")
def test_the_peak_of_a_lap_is_its_own():
    told = []
    watch = Stopwatch(torch.device("cpu"), told.append)
    with mmap.mmap(-1, 1 << 29) as held:  # not by malloc, which may keep what is freed
        held.write(b"1" * (1 << 29))
    watch.lap("large")
    assert [lap.what for lap in told] == ["large"]  # before the next one has begun
    watch.lap("small")
    large, small = (lap.peak_gib for lap in watch.laps)
    assert large - small > 0.4
    assert watch.peak_gib() == large and watch.peak_gib(1) == small


def test_the_made_up_model_is_written_by_another_process(small, tmp_path, monkeypatch):
    def here(*_parts, **_options):
        raise AssertionError("weights were drawn in this process")

    monkeypatch.setattr(made_model, "_write_weights", here)
    monkeypatch.setattr(made_model, "random_set", here)
    labels = tiny_table(10).types
    write_apart(tmp_path, tiny_tokenizer(), labels, n_genes=6, n_layers=2, more=[OTHER_SET, ATLAS])
    lm = load_language(tmp_path / MODEL, "cpu")
    assert (lm.facts.n_layers, lm.facts.width, lm.sentence_config.n_genes) == (2, 64, 6)
    one, other = (load_set(tmp_path / name) for name in (SET, OTHER_SET))
    assert one.n_features == other.n_features == 512 and one.fingerprint != other.fingerprint
    assert (tmp_path / ATLAS / "features.parquet").exists()
    monkeypatch.setattr(made_model, "in_own_process", here)
    write_apart(tmp_path, tiny_tokenizer(), labels, n_layers=2)  # all is there


def test_loading_and_tracing_have_peaks_of_their_own(small, tmp_path):
    told = []
    table = tiny_table(10)
    sizes = {"nodes": 12, "layers": 2, "genes": 6}
    found = bench_410m(tmp_path / "410m", table, tiny_tokenizer(), **sizes, told=told.append)
    assert [lap.what for lap in told] == [row["what"] for row in found["laps"]]
    assert told[0].what == "load" and found["loading_peak_gib"] == told[0].peak_gib
    assert found["tracing_peak_gib"] == max(lap.peak_gib for lap in told[1:])
    assert found["max_relative_error"] < 1e-4 and not (tmp_path / "410m").exists()
    assert "of loading" in summary(found)


def test_a_stage_has_no_promise_in_its_name():
    stages = real_size.Stages()
    for message in ("effects, cell 1, about 3 min left", "effects, cell 1, about 2 min left", "", "tables"):
        stages.follow(0, 1, message)
    assert [row["what"] for row in stages.end()["stages"]] == ["effects, cell 1", "tables"]


NEW_JOBS = ("smallest", "rankings", "evidence", "share", "atlas", "match")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, table = tmp_path_factory.mktemp("jobs"), tiny_table(120)
    with mock.patch.object(made_model, "PYTHIA_410M", made_model.PYTHIA_410M | SMALL):
        more = list(real_size.WANTS.values())
        write_apart(folder, tiny_tokenizer(), table.types, n_genes=8, n_layers=2, more=more)
    return folder, table


@pytest.mark.parametrize("name", NEW_JOBS)
def test_a_job_runs_and_says_its_peak(name, written, monkeypatch, capsys):
    """In small, in this process: stages as they end, then the figures."""
    folder, table = written
    monkeypatch.setattr(real_size, "open_cells", lambda *_parts: table)
    monkeypatch.setattr(real_size, "NODES", 8)
    real_size.main(name, folder)
    torch.set_flush_denormal(False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    laps, found = [line["lap"] for line in lines[:-1]], lines[-1]
    assert found["job"] == name and found["cells"] >= 2
    assert [lap["what"] for lap in laps] == [f"{name}: {stage['what']}" for stage in found["stages"]]
    assert found["peak_gib"] == max(lap["peak_gib"] for lap in laps) > 0.1
    assert f"{name}: peak" in summary({"machine": {}, "jobs": [found]})
