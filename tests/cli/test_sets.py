"""`scx sets`: an atlas gets gene sets; a file that does not fit is one line."""

import pytest

from scx_core.atlas import Atlas
from scx_core.cli import main
from tests.cli.conftest import call


@pytest.fixture(scope="module")
def atlas(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return call("atlas", *files.all, "--out", folder / "atlas", folder)["atlas"]


def test_sets_are_put_into_the_atlas(atlas, tmp_path):
    kept = tmp_path / "kept.gmt"
    words = ("sets", "--atlas", atlas, "--permutations", 2, "--lift", 0.5, "--fdr", 1.0, "--keep", kept)
    found = call(*words, tmp_path)
    opened = Atlas.open(atlas)
    assert opened.meta["gene_sets"]["tested_sets"] == found["tested_sets"] > 0
    assert found["features"] and len(opened.table("sets")) == len(found["features"])
    assert set(found["verdicts"]) >= {"real", "gene names permuted"}
    assert set(found["beside"]) == {"neurons"}
    again = call(*words[:-2], "--sets", kept, tmp_path)
    assert again["tests"] == found["tests"]


def test_what_does_not_fit_is_one_line(atlas, tmp_path, capsys):
    (tmp_path / "ids.gmt").write_text("A\t\tENSG00000012048\tENSG00000012049\n")
    assert main(["sets", "--atlas", atlas, "--sets", str(tmp_path / "ids.gmt")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "0 of your 1 sets" in said and "Ensembl ids" in said
    assert main(["sets", "--atlas", atlas, "--lift", "0.5", "--permutations", "1"]) == 0
    assert "of the live features" in capsys.readouterr().out
