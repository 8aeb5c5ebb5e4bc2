"""An atlas of many features: filters keep what they say (how fast they are: `scx bench atlas`)."""

import pytest

from scx_core.atlas import Atlas, FindConfig
from scx_core.atlas.tables.find import find
from scx_core.bench.atlas import generated_atlas

LAYERS, UNITS = 6, 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generated_atlas(tmp_path_factory.mktemp("large"), LAYERS, UNITS).folder


@pytest.mark.slow
def test_it_opens_whole(folder):
    atlas = Atlas.open(folder)
    assert len(atlas.features) == LAYERS * UNITS
    last = atlas.features.iloc[-1]
    assert (last["layer"], last["feature"]) == (LAYERS - 1, UNITS - 1)


@pytest.mark.slow
def test_filters_keep_what_they_say(folder):
    atlas = Atlas.open(folder)
    table = atlas.features
    found = find(atlas, FindConfig(verdict="gene", layer=12, limit=0))
    wanted = table[(table["verdict"] == "gene") & (table["layer"] == 12)]
    assert sorted(found["feature"]) == sorted(wanted["feature"])
    assert found["score"].is_monotonic_decreasing
    text = find(atlas, FindConfig(text="gene1234", limit=0))
    assert len(text) == sum(table["genes"].str.contains("GENE1234") | table["label"].str.contains("GENE1234"))
