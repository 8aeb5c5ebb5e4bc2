"""The atlas' commands: make, list, one feature with a label of one's own, one gene."""

import pytest

from scx_core.atlas import Atlas
from scx_core.cli import main
from tests.cli.conftest import call


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    return call("atlas", *files.all, "--out", folder / "atlas", folder)


def test_shares_of_every_verdict_add_up(made):
    for rows in made["shares"].values():
        for data in {row["data"] for row in rows}:
            live = [
                row for row in rows if (row["layer"], row["data"]) == (-1, data) and row["verdict"] != "dead"
            ]
            assert sum(row["share"] for row in live) == pytest.approx(1)


def test_features_are_found_by_text_layer_and_number_of_rows(made, tmp_path):
    table = Atlas.open(made["atlas"]).features
    found = call("features", "--atlas", made["atlas"], "--layer", 1, "--limit", 0, tmp_path)["features"]
    assert len(found) == (table["layer"] == 1).sum()
    found = call("features", "--atlas", made["atlas"], "--text", "hla", "--limit", 7, tmp_path)["features"]
    assert 0 < len(found) <= 7
    assert all(
        "HLA" in str([row[k] for k in ("label", "genes", "family", "piece", "writes")]) for row in found
    )


def test_a_feature_keeps_the_label_that_is_given(made, tmp_path, capsys):
    number = int(Atlas.open(made["atlas"]).features.query("layer == 0 and tokens > 0")["feature"].iloc[0])
    words = ("feature", 0, number, "--atlas", made["atlas"])
    found = call(*words, "--set-label", "mine", "--author", "me", tmp_path)
    assert (found["name"], found["label"]) == (f"L0·{number}", "mine")
    assert [one["author"] for one in found["labels"]] == ["me"]
    assert main([*map(str, words)]) == 0
    assert "mine" in capsys.readouterr().out


def test_a_gene_lists_its_readers(made, tmp_path, capsys):
    found = call("gene", "cd74", "--atlas", made["atlas"], tmp_path)
    assert found["gene"] == "CD74" and found["features"]
    assert main(["gene", "NOGENE", "--atlas", str(made["atlas"])]) == 2
    assert "NOGENE" in capsys.readouterr().err


def test_without_a_folder_the_atlas_is_made_once(files, tmp_path):
    words = ("features", *files.all, "--runs", tmp_path / "runs", "--limit", 1)
    assert call(*words, tmp_path) == call(*words, tmp_path)
    assert len(list((tmp_path / "runs" / "atlases").iterdir())) == 1
