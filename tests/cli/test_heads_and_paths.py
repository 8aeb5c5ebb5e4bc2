"""`scx heads`, `scx paths`, `scx connections` on a tiny model: JSON, text, mistakes."""

from __future__ import annotations

import pytest

from scx_core.cli import main
from scx_core.cli.circuits import connections, heads, paths
from tests.cli.conftest import Files, call

TRACE = ("--cell", "cell-3", "--type", "CD19+ B")


def test_heads_of_a_circuit_and_its_edges(files: Files, tmp_path):
    found = call("heads", *files.all, *TRACE, "--edges", "2", "--heads", "3", tmp_path)
    assert found["provenance"]["cell"]["cell_id"] == "cell-3"
    assert len(found["edges"]) == 2
    for edge in found["edges"]:
        assert edge["direct"] + edge["one_head"] + edge["more"] == pytest.approx(edge["weight"], abs=1e-6)
        assert 0 < len(edge["heads"]) <= 3
    text = heads.summary(found)
    assert found["edges"][0]["source"] in text and "through one head" in text
    chosen = found["edges"][1]
    same = call("heads", *files.all, *TRACE, "--edge", f"{chosen['source']}, {chosen['target']}", tmp_path)
    assert [edge["weight"] for edge in same["edges"]] == [pytest.approx(chosen["weight"], rel=1e-6)]


def test_paths_of_an_answer_and_of_a_feature(files: Files, tmp_path):
    found = call("paths", *files.all, *TRACE, "--branches", "20", "--depth", "4", tmp_path)
    account = found["account"]
    parts = sum(account[name] for name in ("tokens", "open", "pruned", "error", "bias"))
    assert parts == pytest.approx(account["value"], rel=1e-4)
    text = paths.summary(found)
    assert "target ← " in text and "pruned" in text and found["genes"][0]["gene"] in text
    feature = next(step["id"] for step in found["steps"] if step["kind"] == "feature")
    below = call("paths", *files.all, *TRACE, "--from", feature, "--branches", "5", tmp_path)
    assert below["start"] == feature and below["unit"] == "of pre-activation"
    assert paths.summary(below).startswith(f"pre-activation of {feature}")


def test_connections_of_a_feature(files: Files, tmp_path):
    found = call("connections", "1:5", *files.all, "--top", "4", tmp_path)
    assert (found["layer"], found["feature"]) == (1, 5)
    assert len(found["features"]) == len(found["genes_by_head"]) == len(found["writes"]) == 4
    text = connections.summary(found)
    assert all(title in text for title in connections.TITLES.values())
    assert found["genes"][0]["genes"][0] in text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["heads", "--edge", "target"], "is no edge"),
        (["heads", "--heads", "0"], "at least 1"),
        (["heads", "--edge", "f:9:9:9,target"], "outside the prompt"),
        (["paths", "--from", "bias"], "not the id"),
        (["paths", "--depth", "0"], "at least 1"),
        (["connections", "two"], "is no feature"),
        (["connections", "9:1"], "no layer 9"),
        (["connections"], "LAYER:NUMBER"),
    ],
)
def test_mistakes_are_one_line(files: Files, words, part, capsys):
    assert main([*words, *files.all]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and part in shown.err
    assert shown.err.startswith("scx: error: ") and shown.err.count("\n") == 1
