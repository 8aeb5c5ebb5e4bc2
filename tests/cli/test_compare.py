from pathlib import Path

import pytest

from scx_core.cli import main
from scx_core.runs import RunFolder
from tests.cli.conftest import call
from tests.validation.training_runs import a_run


def test_runs_by_name_by_folder_and_all_of_them(files, tmp_path, capsys):
    a_run(tmp_path / "runs", "one", finished={})
    a_run(tmp_path / "runs", "two", finished={"ce_recovered": 0.95})
    where = ["--runs", tmp_path / "runs"]
    everything = call("compare", *where, tmp_path)
    assert [row["run"] for row in everything["runs"]] == ["one", "two"] and everything["files"] == []
    mixed = call("compare", "two", files.run, *where, tmp_path)
    assert [row["comparable"] for row in mixed["runs"]] == [True, False]
    assert mixed["runs"][1]["measured"] == "held-out" and mixed["runs"][1]["l0"] > 0
    assert main(["compare", "two", str(files.run), *map(str, where)]) == 0
    shown = capsys.readouterr().out
    assert "0.95" in shown and "does not compare with the first: another model" in shown


def test_the_figure_and_the_table_are_written(tmp_path, capsys):
    a_run(tmp_path / "runs", "one", finished={})
    words = ["compare", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main([*words, "--formats", "svg,csv"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("runs.provenance.json")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "runs.svg",
        "runs.csv",
        "runs.provenance.json",
    }


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no training"),
        (["nowhere"], "nowhere"),
        (["prepared"], "kind prepare"),
        (["--formats", "gif"], ""),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words, part, capsys):
    RunFolder.create(tmp_path / "runs", "prepare", {}, "prepared")
    assert main(["compare", *words, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert part in shown and shown.count("\n") == 1
