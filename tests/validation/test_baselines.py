"""Stand-ins without features: each against its own definition, written out slowly."""

import numpy as np
import pytest
import torch

from scx_core.errors import ScxError
from scx_core.language import OnTokens, encode_cells, forward, replaced_mlps, score_labels
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.validation import BASELINES, linear_maps
from scx_core.validation.baselines import (
    FEATURES_MEAN,
    LINEAR,
    SKIP,
    TOKEN_LINEAR,
    Affine,
    LinearSums,
    fit_baselines,
)
from tests.tiny import tiny_language, tiny_table
from tests.validation import reference
from tests.validation.sets import random_set

TABLE = tiny_table(13)
TRAIN = np.array([1, 2, 6, 10, 0, 3, 4])


@pytest.fixture(scope="module", params=["parallel", "sequential"])
def lm(request, tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), parallel=request.param == "parallel", act="gelu")


@pytest.fixture(scope="module")
def ids(lm):
    cfg = lm.sentence_config
    sentences = [reference.slow_sentence(TABLE, row, cfg.n_genes, cfg.tie_seed) for row in TRAIN]
    return [
        reference.text_of(lm, words, TABLE.labels[row])[0]
        for words, row in zip(sentences, TRAIN, strict=True)
    ]


def with_skip(lm) -> TranscoderSet:
    torch.manual_seed(3)
    paths = [
        torch.randn(lm.facts.width, lm.facts.width, dtype=lm.dtype) / 9 for _ in range(lm.facts.n_layers)
    ]
    layers = [
        Transcoder(c.W_enc_Fd, c.b_enc_F, c.W_dec_Fd, c.b_dec_d, path, kind="topk", k=5)
        for c, path in zip(random_set(lm).layers, paths, strict=True)
    ]
    return TranscoderSet(tuple(layers))


@pytest.fixture(scope="module")
def found(lm):
    return {rival.key: rival.stand_ins for rival in fit_baselines(lm, with_skip(lm), TABLE, TRAIN, batch=3)}


def test_the_maps_are_the_least_squares_of_all_tokens(lm, ids):
    maps = linear_maps(lm, TABLE, TRAIN, batch=2)
    for layer, fitted in enumerate(maps):
        x_Nd, y_Nd = (side.numpy() for side in reference.mlp_pairs(lm, ids, layer))
        wide_Nd = np.concatenate([x_Nd, np.ones((len(x_Nd), 1))], 1)
        guess_Nd = wide_Nd @ np.linalg.lstsq(wide_Nd, y_Nd, rcond=None)[0]
        ours_Nd = fitted(torch.from_numpy(x_Nd)).numpy()
        wanted, ours = (np.square(y_Nd - some_Nd).sum() for some_Nd in (guess_Nd, ours_Nd))
        assert wanted <= ours * (1 + 1e-9) and ours == pytest.approx(wanted, rel=1e-3), (
            "the ridge costs little"
        )
        np.testing.assert_allclose(ours_Nd.mean(0), y_Nd.mean(0), atol=1e-10)


def test_a_linear_mlp_is_found_exactly_however_it_is_cut():
    rng = torch.Generator().manual_seed(0)
    x_Nd = torch.randn(60, 5, generator=rng, dtype=torch.float64) + 1000
    W_dd, b_d = torch.randn(5, 5, generator=rng, dtype=torch.float64), torch.arange(5).double()
    for sizes in ([60], [1, 7, 52]):
        sums = LinearSums()
        for part_Nd in x_Nd.split(sizes):
            sums.add(part_Nd, part_Nd @ W_dd.T + b_d)
        got = sums.solved(1e-12)
        torch.testing.assert_close(got.W_dd, W_dd, rtol=0, atol=1e-8)
        torch.testing.assert_close(got(x_Nd), x_Nd @ W_dd.T + b_d, rtol=0, atol=1e-6)


def test_the_table_of_mlp_0_is_the_mean_by_token_and_in_a_parallel_block_the_mlp_itself(lm, ids, found):
    _, y_Nd = reference.mlp_pairs(lm, ids, 0)
    token_N = torch.tensor([token for text in ids for token in text[:-1]])
    own = found[TOKEN_LINEAR][0]
    assert isinstance(own, OnTokens)
    x_Nd = torch.zeros_like(y_Nd)
    got_Nd = own.stand_in(token_N, x_Nd)
    for token in token_N.unique():
        mine_N = token_N == token
        # attention's softmax is float32 in any model, and its rounding depends on what is read at once
        torch.testing.assert_close(got_Nd[mine_N][0], y_Nd[mine_N].mean(0), rtol=1e-6, atol=1e-6)
    if lm.facts.residual == "parallel":
        torch.testing.assert_close(got_Nd, y_Nd, rtol=0, atol=1e-9)
    unseen = torch.tensor([max(set(range(len(lm.tokenizer))) - set(token_N.tolist()))])
    torch.testing.assert_close(own.stand_in(unseen, x_Nd[:1]), found[LINEAR][0](x_Nd[:1]))


def test_a_token_table_knows_the_tokens_in_cached_passes_too(lm, found):
    table = found[TOKEN_LINEAR]
    cells = encode_cells(lm, TABLE, TRAIN[:2])
    with replaced_mlps(lm, table):
        scores_BK = score_labels(lm, cells, lm.labels[:2], " ")
    for b, cell in enumerate(cells):
        for k, label in enumerate(lm.labels[:2]):
            answer = lm.tokenizer(f" {label}.")["input_ids"]
            text = torch.tensor([[*cell.ids, *answer]])
            with replaced_mlps(lm, table), torch.no_grad():
                log_TV = forward(lm, text, torch.ones_like(text))[0].log_softmax(-1)
            slow = sum(log_TV[len(cell.ids) - 1 + i, token] for i, token in enumerate(answer))
            assert scores_BK[b, k] == pytest.approx(float(slow), abs=1e-5)
    with pytest.raises(TypeError, match="ids"):
        table[0](torch.zeros(1, 1, lm.facts.width))


def test_features_at_their_mean_and_the_affine_path_alone(lm, ids, found):
    coders = with_skip(lm)
    for layer, coder in enumerate(coders.layers):
        x_Nd, _ = reference.mlp_pairs(lm, ids, layer)
        path_Nd = x_Nd @ coder.W_skip_dd.T
        wanted_Nd = path_Nd + coder.encode(x_Nd).mean(0) @ coder.W_dec_Fd + coder.b_dec_d
        torch.testing.assert_close(found[FEATURES_MEAN][layer](x_Nd), wanted_Nd)
        torch.testing.assert_close(found[SKIP][layer](x_Nd), path_Nd + coder.b_dec_d)
    without = {rival.key: rival for rival in fit_baselines(lm, random_set(lm), TABLE, TRAIN)}
    assert SKIP not in without and set(found) == set(BASELINES)
    assert without[FEATURES_MEAN].stand_ins[0](x_Nd).std(0).max() == 0, "a constant"
    assert [rival.key for rival in fit_baselines(lm, None, TABLE, TRAIN)] == [LINEAR, TOKEN_LINEAR]


def test_no_cells_to_fit_on_is_said(lm):
    with pytest.raises(ScxError):
        linear_maps(lm, TABLE, [])
    assert Affine(torch.ones(3))(torch.zeros(2, 4, 3)).shape == (2, 4, 3)
