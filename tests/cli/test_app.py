"""`scx app`: what is served, to whom, and where it writes."""

import os
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from scx_core.cli import app, main
from scx_core.places import app_folder


@pytest.fixture
def served(monkeypatch, tmp_path):
    """The command and environment that `scx app` ends in, and the folder that it is called in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCX_RUNS", raising=False)
    calls: list[SimpleNamespace] = []

    def served_instead(program, command, environment):
        calls.append(SimpleNamespace(command=command, environment=environment, folder=str(Path.cwd())))
        raise KeyboardInterrupt

    monkeypatch.setattr(app.os, "execve", served_instead)

    def call(*words: str) -> SimpleNamespace:
        assert main(["app", *words]) == 130
        return calls[-1]

    return call


def values(command: list[str], option: str) -> list[str]:
    return [after for before, after in pairwise(command) if before == option]


def test_the_app_listens_to_this_computer_only_and_writes_to_the_current_folder(served, tmp_path):
    done = served()
    assert done.command[:5] == [sys.executable, "-P", "-m", "streamlit", "run"]
    assert done.command[5] == str(app_folder() / "app.py")
    assert values(done.command, "--server.address") == ["localhost"]
    assert values(done.command, "--server.allowedHosts") == ["localhost", "127.0.0.1"]
    assert values(done.command, "--browser.gatherUsageStats") == ["false"]
    assert done.folder == str(tmp_path) and not {"SCX_DATA", "SCX_MODEL"} & done.environment.keys()


def test_another_address_and_name_are_asked_for_one_by_one(served):
    done = served("--host", "0.0.0.0", "--allow-host", "cells.example.org", "--port", "8600")
    assert values(done.command, "--server.address") == ["0.0.0.0"]
    assert values(done.command, "--server.allowedHosts") == ["localhost", "127.0.0.1", "cells.example.org"]
    assert values(done.command, "--server.port") == ["8600"]
    assert "10.0.0.5" in values(served("--host", "10.0.0.5").command, "--server.allowedHosts")


def test_what_is_named_comes_before_what_was_in_use_last(served, tmp_path, monkeypatch):
    (tmp_path / "lab" / "runs").mkdir(parents=True)
    last = tmp_path / "lab" / "runs" / "last-used.json"
    last.write_text("{}")
    assert served("--folder", "lab").folder == str(tmp_path / "lab") and last.exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.h5ad").write_text("")
    done = served("--folder", "lab", "--data", "cells.h5ad", "--model", "vandijklab/some-model")
    assert done.environment["SCX_DATA"] == str(tmp_path / "cells.h5ad") and not last.exists()
    assert done.environment["SCX_MODEL"] == "vandijklab/some-model"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "none.h5ad"), "none.h5ad is not there"),
        (("--model", "./none"), "./none is not there"),
        (("--folder", "none"), "none is no folder"),
        (("--port", "70000"), "70000 is no port"),
    ],
)
def test_a_mistake_is_told_before_anything_is_served(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app.os, "execve", lambda *_: pytest.fail("served"))
    assert main(["app", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setattr(app.os, "execve", lambda *_: pytest.fail("served"))
    assert main(["app", "--folder", str(tmp_path / "closed")]) == 2
    assert "may not be written to" in capsys.readouterr().err
