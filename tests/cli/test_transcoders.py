import json
import shutil

import pytest

from scx_core.cli import main
from scx_core.runs import read_json
from scx_core.transcoders import load_set, save_set
from tests.cli.conftest import call
from tests.transcoders.layout_sets import random_set, same


@pytest.mark.parametrize("layout", ["circuit-tracer", "saelens"])
def test_a_set_goes_out_and_comes_back(files, tmp_path, capsys, layout):
    ours = load_set(files.run / "transcoders")
    words = [
        "transcoders",
        "export",
        files.run / "transcoders",
        "--layout",
        layout,
        "--out",
        tmp_path / "out",
    ]
    result = call(*words, tmp_path)
    assert (result["layout"], result["kind"], result["n_layers"]) == (layout, "jumprelu", 2)
    back = call("transcoders", "import", tmp_path / "out", "--out", tmp_path / "back", tmp_path)
    assert same(ours, load_set(tmp_path / "back")) and back["layout"] == layout
    record = read_json(tmp_path / "back" / "scx.json")
    assert record["imported_from"] == {"layout": layout, "fingerprint": result["fingerprint"]}
    assert record["provenance"] == ours.meta["provenance"]
    assert main([*map(str, words)]) == 2
    assert "is in use" in capsys.readouterr().err


def test_top_k_is_calibrated_on_cells(files, tmp_path, capsys):
    top = random_set("topk", True, layers=2, F=40, d=16, k=5)
    save_set(tmp_path / "topk", top)
    words = ["transcoders", "export", str(tmp_path / "topk"), "--layout", "saelens"]
    assert main([*words, "--out", str(tmp_path / "no")]) == 2
    assert "--calibrate" in capsys.readouterr().err and not (tmp_path / "no").exists()
    cells = [*files.data, *files.model, "--calibrate", "6"]
    result = call(*words, *cells, "--out", tmp_path / "out", tmp_path)
    assert result["kind"] == "jumprelu" and result["calibrated_from"] == {"kind": "topk", "k": 5}
    assert main([*words, *cells, "--out", str(tmp_path / "again")]) == 0
    assert "5 features a token pass on average" in capsys.readouterr().out
    assert same(load_set(tmp_path / "out"), load_set(tmp_path / "again"))
    assert main([*words, *files.data, *files.model, "--calibrate", "0", "--out", str(tmp_path / "x")]) == 2


def test_a_broken_import_is_one_line(files, tmp_path, capsys):
    assert main(["transcoders", "import", "--out", str(tmp_path / "out")]) == 2
    assert "FOLDER" in capsys.readouterr().err
    shutil.copytree(files.run / "transcoders", tmp_path / "set")
    (tmp_path / "set" / "scx.json").write_text(json.dumps({"kind": "gelu"}))
    assert main(["transcoders", "import", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert "gelu" in shown and shown.count("\n") == 1 and not (tmp_path / "out").exists()
