"""`scx rate`: answers as CSV and their agreement, from a saved atlas."""

import pandas as pd
import pytest

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas.rating.ratings import OWN, Unit, rate
from scx_core.cli import main
from tests.atlas.planted import planted


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    case = planted(tmp_path_factory.mktemp("planted"))
    made = make_atlas(case.lm, case.transcoders, case.table, range(20), AtlasConfig(batch=16, baseline=False))
    saved = made.save(tmp_path_factory.mktemp("atlas") / "one")
    for feature in range(4):
        rate(saved, Unit(OWN, 0, feature), feature > 0, "gene", "=1+1", "me")
    return saved


def test_export(atlas, tmp_path):
    file = tmp_path / "answers.csv"
    assert main(["rate", "export", "--atlas", str(atlas.folder), "--out", str(file)]) == 0
    table = pd.read_csv(file)
    assert table["feature"].tolist() == [0, 1, 2, 3] and set(table["rater"]) == {"me"}
    assert table["description"].str.startswith("'=").all()  # no formula for a spreadsheet


def test_agreement(atlas, capsys):
    assert main(["rate", "agreement", "--atlas", str(atlas.folder)]) == 0
    assert "me and automatic" in capsys.readouterr().out
    assert main(["rate", "agreement", "--atlas", str(atlas.folder), "--out", "x.csv"]) == 2
