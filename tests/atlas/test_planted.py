"""Features that were built to read known tokens are found out, and nothing else is taken for one."""

import numpy as np
import pytest

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas.judge.excess import excess, interval
from scx_core.atlas.judge.protocol import AT_GENES
from tests.atlas.planted import KINDS, planted

# In a parallel block the first MLP is a table by token: nothing in it is more than that.
SAID = {"gene": "token", "polysemantic": "token"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def atlas(case):
    return make_atlas(case.lm, case.transcoders, case.table, cfg=AtlasConfig(batch=16))


def test_every_kind_was_planted(case):
    assert set(case.truth) == set(KINDS)


def test_features_of_a_token_are_called_that_and_name_the_genes(case, atlas):
    of_genes = np.array([kind == "gene" for kind in case.truth])
    said = (atlas.features["verdict"] == "token").to_numpy()
    right = np.array(
        [
            bool(genes) and set(named.split(" ")[: len(genes)]) == genes
            for genes, named in zip(case.genes, atlas.features["genes"], strict=True)
        ]
    )
    assert (said & right)[of_genes].mean() >= 0.95
    single = of_genes & np.array([len(genes) == 1 for genes in case.genes])
    for number in np.flatnonzero(single & said & right):
        label = atlas.features["label"][number]
        assert label.startswith("token") and f"({next(iter(case.genes[number]))})" in label


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdicts_are_right(case, atlas, kind):
    of_kind = np.array([one == kind for one in case.truth])
    assert (atlas.features["verdict"][of_kind] == SAID.get(kind, kind)).mean() >= 0.95


def test_the_token_explains_all_of_a_first_layer(case, atlas):
    live = atlas.features[atlas.features["verdict"] != "dead"]
    assert live["token_share"].min() > 0.999
    # So it is with anything that reads the same.
    others = atlas.table("baselines")
    assert set(others["source"]) == {"random1", "random2", "random3", "embedding", "onehot"}
    judged = others[~others["verdict"].isin(["dead", "rare"])]
    assert len(judged) > 100 and judged["token_share"].min() > 0.999


def test_planted_genes_exceed_random_directions_which_do_not_exceed_themselves(atlas):
    row = excess(atlas).set_index(["measure", "layer"]).loc[(AT_GENES, -1)]
    assert row["low"] > 0.1 and row["draws"] == 3
    curve = atlas.table("curve").astype({"source": str, "measure": str})
    last = curve[(curve["cells"] == curve["cells"].max()) & (curve["layer"] == -1)]
    drawn = last[(last["measure"] == AT_GENES) & last["source"].str.startswith("random")]
    assert len(drawn) == 3
    for source in drawn["source"]:
        one, rest = drawn[drawn["source"] == source].iloc[0], drawn[drawn["source"] != source]
        found = interval(one["share"], one["features"], rest["share"], rest["features"])
        assert found.low <= 0 <= found.high and abs(found.excess) < 0.1


def test_shuffled_data_hold_next_to_no_gene_features(atlas):
    """Thresholds let 1 % of the units of the other half through: one feature of these few, at most two."""
    shares = atlas.shares.query("verdict == 'gene' and layer == -1").set_index("data")["share"]
    assert shares["activations shuffled"] <= 0.025 and shares["genes shuffled"] <= 0.025
