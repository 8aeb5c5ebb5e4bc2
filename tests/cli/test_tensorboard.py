import importlib.util
import json

import pytest

from scx_core.cli import main
from tests.cli.conftest import call


def test_without_the_package_no_run_is_made(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ["train", *files.data, *files.model, "--tensorboard", "--runs", str(tmp_path / "runs")]
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "pip install tensorboard" in shown and shown.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_training_leaves_event_files_and_a_resume_keeps_the_wish(files, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra: tensorboard)")
    short = ["--steps", "4", "--evaluate-every", "2", "--checkpoint-every", "2", "--k", "4", "--warmup", "1"]
    where = ["--runs", tmp_path / "runs", "--name", "shown", "--tensorboard"]
    call("train", *files.data, *files.model, *short, *where, tmp_path)
    run = tmp_path / "runs" / "shown"
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    assert "--tensorboard" in json.loads((run / "run.json").read_text())["argv"]
