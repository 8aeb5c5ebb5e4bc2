import json
from pathlib import Path
from types import SimpleNamespace

from scx_core.runs import ConsoleProgress, provenance, silent


def test_the_record_says_what_went_in_and_is_the_same_every_time():
    table = SimpleNamespace(name="pbmc", fingerprint="ab12")
    model = SimpleNamespace(source="/home/someone/models/demo", fingerprint="cd34")
    record, again = (
        provenance(config={"n": 1}, data=table, model=model, seed=0, n_cells=30) for _ in range(2)
    )
    assert record["data"] == {"name": "pbmc", "fingerprint": "ab12"}
    assert record["model"] == {"name": "demo", "fingerprint": "cd34"}
    assert (record["seed"], record["n_cells"], record["config"]) == (0, 30, {"n": 1})
    assert "transcoders" not in record and {"python", "torch", "numpy"} <= set(record["versions"])
    assert json.dumps(record) == json.dumps(again)
    assert provenance(data=Path("/home/someone/cells.h5ad"))["data"] == "cells.h5ad"


def test_the_console_shows_a_bar_for_each_phase(capsys):
    silent(1, 2, "x")
    progress = ConsoleProgress()
    for done, total, message in [(0, 2, "first"), (2, 2, "first"), (1, 3, "second")]:
        progress(done, total, message)
    progress.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "first: 100%" in shown.err and "second:  33%" in shown.err
