"""Features that were built to read known genes are found out, and nothing else is taken for one."""

import numpy as np
import pytest

from scx_core.atlas import AtlasConfig, collect
from tests.atlas.planted import KINDS, planted


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def atlas(case):
    return collect(case.lm, case.transcoders, case.table, cfg=AtlasConfig(batch=16))


def test_every_kind_was_planted(case):
    assert set(case.truth) == set(KINDS)


def test_gene_features_are_recovered_with_precision_and_recall(case, atlas):
    said = (atlas.features["verdict"] == "gene").to_numpy()
    right = np.array(
        [
            bool(genes) and set(named.split(" ")[: len(genes)]) == genes
            for genes, named in zip(case.genes, atlas.features["genes"], strict=True)
        ]
    )
    planted_genes = np.array([kind == "gene" for kind in case.truth])
    assert (said & right).sum() / said.sum() >= 0.95
    assert (said & right).sum() / planted_genes.sum() >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_verdicts_are_right_too(case, atlas, kind):
    of_kind = np.array([one == kind for one in case.truth])
    assert (atlas.features["verdict"][of_kind] == kind).mean() >= 0.95


def test_shuffled_data_hold_no_gene_features(atlas):
    shares = atlas.shares.query("verdict == 'gene' and layer == -1").set_index("data")["share"]
    assert shares["real"] > 0.5
    assert shares["activations shuffled"] == shares["genes shuffled"] == 0
