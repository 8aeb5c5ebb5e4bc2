"""Metrics as event files: every record once, also after a resume; clear words without the package."""

import importlib.util

import pytest

from scx_core.errors import ScxError
from scx_core.runs import RunFolder
from scx_core.runs.tensorboard import FOLDER, Mirror, mirrored, scalars


def read(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list((run.path / FOLDER).glob("events.*"))) == 1
    events = EventAccumulator(str(run.path / FOLDER)).Reload()
    return {
        name: [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path, "train", {})


def test_figures_have_names_by_layer_and_other_values_are_left_out():
    record = {"step": 3, "loss": 1, "fvu": [0.5, 0.25], "kl": None, "note": "x", "ok": True, "l0": [None, 2]}
    assert scalars(record) == {"loss": 1.0, "fvu/layer_0": 0.5, "fvu/layer_1": 0.25, "l0/layer_1": 2.0}


def test_every_record_is_there_once_also_after_a_resume(run):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: tensorboard)")
    told = []
    with mirrored(run, lambda *words: told.append(words)) as progress:
        for step in (1, 2, 3):
            run.log({"step": step, "loss": 1 / step, "fvu": [step, 2 * step]})
            progress(step, 3, "training")
    assert told == [(step, 3, "training") for step in (1, 2, 3)]
    assert read(run) == {
        "loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)],
        "fvu/layer_0": [(1, 1), (2, 2), (3, 3)],
        "fvu/layer_1": [(1, 2), (2, 4), (3, 6)],
    }
    mirror = Mirror(run)  # a second start, which sees the old records before it drops some
    mirror.update()
    run.truncate_metrics(1)
    run.log({"step": 2, "loss": 0.7})
    mirror.update()
    run.log({"step": 3, "loss": 0.6})
    mirror.update()
    mirror.close()
    assert read(run)["loss"] == [(1, 1.0), (2, 0.7), (3, 0.6)]


def test_a_job_that_fails_is_mirrored_up_to_there_and_one_that_never_began_is_not(run):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: tensorboard)")
    with pytest.raises(RuntimeError), mirrored(run, lambda *words: None):
        raise RuntimeError("another process holds the run")
    assert not (run.path / FOLDER).exists()
    with pytest.raises(RuntimeError), mirrored(run, lambda *words: None) as progress:
        progress(0, 3, "reading cells")
        run.log({"step": 1, "loss": 2.0})
        raise RuntimeError("out of memory")
    assert read(run) == {"loss": [(1, 2.0)]}


def test_without_the_package_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ScxError, match="pip install tensorboard"), mirrored(run, lambda *words: None):
        pass
    assert not (run.path / FOLDER).exists()
