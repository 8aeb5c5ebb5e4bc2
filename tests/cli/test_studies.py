"""`scx evidence heart` and `transfer`: what is missing is said in one line, before anything is made."""

from __future__ import annotations

import pytest

from scx_core.cli.main import main


@pytest.mark.parametrize(
    "argv",
    [
        ["heart", "--profiles", "no-such.h5ad"],
        ["transfer", "--train", "no-such.h5ad", "--on", "no-such.h5ad"],
    ],
)
def test_a_file_that_is_not_there_is_named(argv, tmp_path, capsys):
    assert main(["evidence", *argv, "--runs", str(tmp_path), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "no-such.h5ad" in said and len(said.strip().splitlines()) <= 2
    assert not list(tmp_path.iterdir())
