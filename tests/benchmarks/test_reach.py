"""`scx bench` finds the folder `benchmarks` of a checkout from anywhere, and does without it elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scx_core
from scx_core.cli import main

ROOT = Path(scx_core.__file__).resolve().parent.parent


def test_a_checkout_is_found_from_another_folder(tmp_path):
    command = [sys.executable, "-P", "-m", "scx_core", "bench", "recipes", "--only", "nonsense"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "There is no recipe 'nonsense'" in done.stderr


@pytest.mark.parametrize("what", ["kills", "memory", "pareto", "recipes"])
def test_an_installed_package_without_it_says_so_in_one_line(what, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scx_core, "__file__", str(tmp_path / "scx_core" / "__init__.py"))
    assert main(["bench", what, "--quiet"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "not part of the installed package" in shown


def test_the_other_benchmarks_can_be_called_without_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scx_core, "__file__", str(tmp_path / "scx_core" / "__init__.py"))
    with pytest.raises(SystemExit) as left:
        main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "--peer-python" in shown and "--figure" not in shown
