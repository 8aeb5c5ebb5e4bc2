"""`scx match`: a set against itself, pairs as CSV, and one line for what does not fit."""

import pandas as pd

from scx_core.cli import main
from tests.cli.conftest import call


def test_a_set_matches_itself(files, tmp_path, capsys):
    folder = files.transcoders[1]
    words = ("match", folder, folder, *files.data, *files.model, "--tokens", 5, "--out", tmp_path / "p.csv")
    found = call(*words, tmp_path)
    whole = {row["way"]: row for row in found["shares"] if row["layer"] == -1}
    assert set(whole) == {"weights", "activation", "genes"} and whole["weights"]["mutual"] == 1
    assert len(pd.read_csv(tmp_path / "p.csv")) == len(found["pairs"])
    assert main([*map(str, words)]) == 0
    assert "generalise" in capsys.readouterr().out


def test_a_set_of_another_model_is_one_line(files, capsys):
    assert main(["match", files.transcoders[1], "embedded", *files.data, *files.model, "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
