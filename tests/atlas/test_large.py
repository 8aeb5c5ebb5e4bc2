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
    found = find(atlas, FindConfig(verdict="gene", layer=4, limit=0))
    wanted = table[(table["verdict"] == "gene") & (table["layer"] == 4)]
    assert len(wanted) and sorted(found["feature"]) == sorted(wanted["feature"])
    assert found["score"].is_monotonic_decreasing

    def numbers(rows):
        return set(zip(rows["layer"], rows["feature"], strict=True))

    part = find(atlas, FindConfig(text="ene1234", limit=0))  # no gene's name: what the words hold
    words = table["genes"].str.contains("GENE1234") | table["label"].str.contains("GENE1234")
    assert words.any() and numbers(part) == numbers(table[words])
    gene = find(atlas, FindConfig(text="gene1234", limit=0))  # a gene's name: what its own tab shows
    assert numbers(part) <= numbers(gene) == numbers(atlas.gene("GENE1234"))
