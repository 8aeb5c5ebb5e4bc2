"""Sets whose features are the same in another order are matched; sets that share nothing are not."""

import numpy as np
import pytest
import torch

from scx_core.atlas import MatchConfig, Side, match_sets
from scx_core.atlas.match.common_cells import PairMoments
from scx_core.atlas.match.matching import best_matches, correlation, gene_preference
from scx_core.errors import ScxError
from scx_core.transcoders import Transcoder, TranscoderSet
from tests.tiny import tiny_language, tiny_table

CFG = MatchConfig(cells=0, tokens=5)
F = 24


def random_set(lm, seed, features=F):
    generator = torch.Generator().manual_seed(seed)
    d = lm.facts.width

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layers = [
        Transcoder(draw(features, d), draw(features) - 1, draw(features, d), draw(d))
        for _ in range(lm.facts.n_layers)
    ]
    return TranscoderSet(tuple(layers), {"name": f"random {seed}"})


def reordered(coders, order):
    layers = [
        Transcoder(one.W_enc_Fd[order], one.b_enc_F[order], one.W_dec_Fd[order], one.b_dec_d)
        for one in coders.layers
    ]
    return TranscoderSet(tuple(layers), {"name": "reordered"})


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("matching"))


def shares_of(found):
    return found.shares[found.shares["layer"] == -1].set_index("way")


def test_reordered_features_are_found_by_weights_and_activation(lm):
    coders, order = random_set(lm, 0), np.random.default_rng(0).permutation(F)
    found = match_sets(Side(lm, coders), Side(lm, reordered(coders, order)), tiny_table(30), cfg=CFG)
    for way in ("weights", "activation"):
        pairs = found.pairs[found.pairs["way"] == way]
        assert (order[pairs["other"]] == pairs["feature"]).all()
        assert pairs["mutual"].all()
        np.testing.assert_allclose(pairs["score"], 1, atol=1e-4)
        row = shares_of(found).loc[way]
        assert row["generalises"] == row["mutual"] == 1 and row["generalises_null"] < 0.2
    genes = found.pairs[found.pairs["way"] == "genes"]
    assert (order[genes["other"]] == genes["feature"]).mean() > 0.9


def test_strangers_are_not_matched_by_weights(lm):
    found = match_sets(Side(lm, random_set(lm, 0)), Side(lm, random_set(lm, 1)), tiny_table(30), cfg=CFG)
    row = shares_of(found).loc["weights"]
    assert row["generalises"] < 0.1 and row["found"] < 0.1
    assert 0 < row["mutual_null"] < 1  # some pairs are mutual by chance alone


def test_another_model_is_matched_by_genes_only_where_it_can(lm, tmp_path):
    other = tiny_language(tmp_path, seed=1)
    found = match_sets(
        Side(lm, random_set(lm, 0)), Side(other, random_set(other, 1)), tiny_table(20), cfg=CFG
    )
    assert set(found.pairs["way"]) == {"activation", "genes"}
    assert "different models" in found.skipped["weights"]


def test_the_same_again_and_the_batch_size_changes_nothing_real(lm):
    sides = Side(lm, random_set(lm, 0)), Side(lm, random_set(lm, 1))
    first = match_sets(*sides, tiny_table(20), cfg=CFG)
    again = match_sets(*sides, tiny_table(20), cfg=CFG)
    assert first.shares.equals(again.shares) and first.pairs.equals(again.pairs)
    other = match_sets(*sides, tiny_table(20), cfg=MatchConfig(cells=0, tokens=5, batch=3))
    np.testing.assert_allclose(other.pairs["score"], first.pairs["score"], atol=1e-4)


def test_what_does_not_fit_is_said(lm, tmp_path):
    deep = tiny_language(tmp_path, layers=3)
    sides = Side(lm, random_set(lm, 0)), Side(deep, random_set(deep, 0))
    with pytest.raises(ScxError, match="first set has 2 layers, the second 3"):
        match_sets(*sides, tiny_table(5), cfg=CFG)
    with pytest.raises(ScxError, match="Choose a set"):
        match_sets(Side(lm, random_set(deep, 0)), sides[0], tiny_table(5), cfg=CFG)


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.gamma(1, size=(50, 4)), rng.gamma(1, size=(50, 3))
    a[:, 3] = 0
    moments = PairMoments(a.T @ b, a.sum(0), b.sum(0), (a**2).sum(0), (b**2).sum(0), len(a))
    expected = np.corrcoef(a[:, :3].T, b.T)[:3, 3:]
    np.testing.assert_allclose(correlation(moments)[:3], expected, atol=1e-10)
    assert (correlation(moments)[3] == 0).all()


def test_dead_features_match_nothing():
    alike = np.array([[0.9, 1.0], [0.8, 0.7]])
    found = best_matches(alike, np.array([True, True]), np.array([True, False]))
    assert found.other_A.tolist() == [0, 0] and found.mutual_A.tolist() == [True, False]
    nobody = best_matches(alike, np.array([False, False]), np.array([True, True]))
    assert (nobody.other_A == -1).all()


def test_a_feature_that_follows_the_tokens_prefers_no_gene():
    preference = gene_preference(np.array([[2.0, 4.0], [6.0, 0.0], [0.0, 0.0]]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(preference, [[0, 0], [2 / 3, -2 / 3], [0, 0]])
