"""`scx difference`, `scx circuit --steps` and `scx trace --feature`, on files."""

from __future__ import annotations

import pytest

from scx_core.circuits import Circuit
from scx_core.cli import main
from tests.cli.conftest import call

SHORT = ["--cells", "3", "--nodes", "30", "--min-share", "0.3"]


def test_two_types(files, tmp_path):
    result = call("difference", *files.all, *SHORT, "--type", "CD19+ B", "--other", "Dendritic", tmp_path)
    assert result["names"] == ["CD19+ B", "Dendritic"]
    sides = [Circuit.from_json(result[side]) for side in ("first", "second", "difference")]
    assert [side.scope for side in sides] == ["consensus", "consensus", "difference"]
    assert result["difference"]["provenance"]["compared"] == ["CD19+ B", "Dendritic"]


def test_two_sets_on_the_same_cells(files, tmp_path):
    other = ["--other-transcoders", files.transcoders[1]]
    result = call("difference", *files.all, *SHORT, "--type", "Dendritic", *other, tmp_path)
    effects = [gene["effect"] for gene in result["difference"]["genes"]]
    assert max(map(abs, effects)) < 1e-6, "a set less itself"


def test_steps_are_in_the_circuit(files, tmp_path):
    result = call("circuit", *files.all, *SHORT, "--type", "CD19+ B", "--steps", tmp_path)
    features = {node["id"]: node["layer"] for node in result["nodes"] if node["kind"] == "feature"}
    for step in result["supernodes"]:
        assert len({features[name] for name in step["members"]}) == 1
        assert len(step["members"]) > 1


def test_a_feature_is_explained(files, tmp_path):
    traced = call("trace", *files.all, "--cell", "cell-3", "--nodes", "900", "--node-share", "1", tmp_path)
    features = [n for n in traced["nodes"] if n["kind"] == "feature"]
    node = min(features, key=lambda n: n["position"])  # behind the prompt, answer tokens are forced
    name = f"{node['layer']}:{node['feature']}:{node['position']}"
    result = call("trace", *files.all, "--cell", "cell-3", "--feature", name, tmp_path)
    assert (result["target"]["kind"], result["target"]["position"]) == ("feature", node["position"])
    assert all(n["layer"] < node["layer"] for n in result["nodes"] if n["kind"] == "feature")
    assert result["target"]["value"] == pytest.approx(node["activation"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["difference"], "--other TYPE"),
        (["difference", "--other", "B", "--other-model", "x"], "not both"),
        (["trace", "--feature", "two"], "LAYER:NUMBER"),
    ],
)
def test_mistakes(files, words, part, capsys):
    assert main([words[0], *files.all, *words[1:]]) == 2
    assert part in capsys.readouterr().err
