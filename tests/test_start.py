import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)

# Modules in the current folder come first, so this one is run in the place of pytest and streamlit.
STAND_IN = "import sys\nprint('RAN', sys.argv[1:], sys.prefix != sys.base_prefix)\n"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with nothing to install, far from ours."""
    shutil.copy(ROOT / "start.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    (tmp_path / "requirements-test.txt").write_text("-r requirements.txt\n")
    for name in ("pytest", "streamlit"):
        (tmp_path / f"{name}.py").write_text(STAND_IN)
    monkeypatch.delenv("SCX_VENV", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PIP_USER", "1")
    return tmp_path


def call(project: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(project / "start.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_sets_up_once_and_repairs_what_is_broken(project):
    first = call(project, "test", "-k", "lock")
    assert first.returncode == 0, first.stderr
    assert (
        "Making a Python environment" in first.stdout and "Installing requirements-test.txt" in first.stdout
    )
    assert "RAN ['--numprocesses=auto', '--dist=loadfile', '-k', 'lock'] True" in first.stdout
    app = call(project, "--port", "8600")
    assert app.stdout.strip() == "RAN ['run', 'app.py', '--server.port', '8600'] True", "nothing left to do"

    (project / "requirements.txt").write_text("# something else\n")
    assert "Installing requirements.txt" in call(project).stdout
    assert "Installing" not in call(project).stdout

    folder = project / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    for file in folder.glob("python*"):
        file.unlink()
    repaired = call(project)
    assert "Making a Python environment" in repaired.stdout and "Installing" in repaired.stdout
    assert repaired.returncode == 0 and "RAN" in repaired.stdout


def test_an_install_that_fails_says_so_and_is_tried_again(project):
    (project / "requirements.txt").write_text("./no-such-folder\n")
    for _ in range(2):
        failed = call(project)
        assert failed.returncode == 1 and "pip could not install everything" in failed.stderr
        assert "RAN" not in failed.stdout


def test_a_folder_that_is_no_environment_is_left_alone(project, monkeypatch):
    (project / "data").mkdir()
    (project / "data" / "cells.h5ad").write_text("precious")
    monkeypatch.setenv("SCX_VENV", str(project / "data"))
    refused = call(project)
    assert refused.returncode == 1 and "is no virtual environment" in refused.stderr
    assert (project / "data" / "cells.h5ad").read_text() == "precious"


def test_an_old_python_is_told_what_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(start.sys, "version_info", (3, 10, 4))
    assert start.main([]) == 2
    assert "needs Python 3.11 or newer" in capsys.readouterr().err


def test_every_requirement_is_pinned_and_within_the_ranges_of_the_package():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = {(r := Requirement(line)).name: r.specifier for line in project["dependencies"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {(r := Requirement(line)).name: r.specifier for line in lines if line and line[0] != "#"}
    assert pins.keys() == ranges.keys()
    for name, pin in pins.items():
        (only,) = pin
        assert only.operator == "==" and ranges[name].contains(only.version), name


def test_what_is_installed_alone_may_fail_and_counts_as_something_to_install(project):
    before = call(project, "test").stdout
    (project / start.ALONE).write_text("no-such-package-at-all @ file:///nowhere/at/all.whl\n")
    told = call(project, "test")
    assert "Installing" in before and "Installing" in told.stdout
    assert told.returncode == 0 and f"{start.ALONE} could not be installed" in told.stdout
    assert "Installing" not in call(project, "test").stdout
