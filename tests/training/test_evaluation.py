"""Losses with replaced MLPs and sums over layers, against plain computations."""

import numpy as np
import pytest
import torch

from scx_core.language import forward, mlp_io, replaced_mlps
from scx_core.training.evaluation import layer_sums, spliced
from scx_core.training.tokens import encode_texts
from scx_core.transcoders import Transcoder, TranscoderSet
from tests.tiny import tiny_language, tiny_table

F = 40


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def texts(lm):
    return encode_texts(lm, tiny_table(11), np.arange(11), lm.sentence_config)


def coders(lm, scale: float) -> TranscoderSet:
    generator = torch.Generator().manual_seed(2)
    d = lm.facts.width

    def random(*shape):
        return scale * torch.randn(*shape, generator=generator, dtype=lm.dtype)

    b_enc_F = torch.where(torch.arange(F) < 10, -1e3, 0.0).to(lm.dtype)  # ten features that never fire
    layers = [Transcoder(random(F, d), b_enc_F, random(F, d), random(d)) for _ in range(lm.facts.n_layers)]
    return TranscoderSet(tuple(layers))


def one_by_one(lm, texts, stand_ins):
    """Log-probabilities of each text alone, without padding: [tokens − 1, V] each."""
    for c in range(texts.n_cells):
        ids_1T, mask_1T = texts.batch(lm, [c])
        with torch.no_grad(), replaced_mlps(lm, stand_ins):
            yield forward(lm, ids_1T, mask_1T)[0, :-1].log_softmax(-1), ids_1T[0, 1:]


def test_spliced_losses_are_those_of_each_text_alone(lm, texts):
    layers = coders(lm, 0.1)
    found = spliced(lm, layers, texts, range(texts.n_cells))
    orig = list(one_by_one(lm, texts, {}))
    coded = list(one_by_one(lm, texts, layers.stand_ins()))
    zero = list(one_by_one(lm, texts, dict.fromkeys(range(lm.facts.n_layers), torch.zeros_like)))
    n = sum(len(ids) for _, ids in orig)
    for name, runs in (("ce_orig", orig), ("ce_transcoder", coded), ("ce_zero", zero)):
        loss = -sum(float(lp.gather(1, ids[:, None]).sum()) for lp, ids in runs) / n
        assert getattr(found, name) == pytest.approx(loss, rel=1e-5)
    kl = sum(float((p.exp() * (p - q)).sum()) for (p, _), (q, _) in zip(orig, coded, strict=True)) / n
    assert found.kl == pytest.approx(kl, rel=1e-4) and kl > 0
    wanted = (found.ce_zero - found.ce_transcoder) / (found.ce_zero - found.ce_orig)
    assert found.ce_recovered == pytest.approx(wanted)


def test_transcoders_that_write_nothing_are_as_bad_as_zero(lm, texts):
    found = spliced(lm, coders(lm, 0.0), texts, range(4))
    assert found.ce_transcoder == pytest.approx(found.ce_zero) and found.ce_recovered == pytest.approx(0)


def test_layer_sums_are_ratios_of_sums_over_all_tokens(lm, texts):
    layers = coders(lm, 0.1)
    found = layer_sums(lm, layers, texts, range(texts.n_cells))
    for layer, coder in enumerate(layers.layers):
        sides = [mlp_io(lm, *texts.batch(lm, [c])) for c in range(texts.n_cells)]
        x_Td, y_Td = (torch.cat([getattr(io, s)[layer][0] for io in sides]) for s in ("inputs", "outputs"))
        z_TF = coder.encode(x_Td)
        fvu = (y_Td - coder(x_Td)).square().sum() / (y_Td - y_Td.mean(0)).square().sum()
        assert found[layer].fvu == pytest.approx(float(fvu), rel=1e-4)
        assert found[layer].l0 == pytest.approx(float((z_TF > 0).sum(1).double().mean()), rel=1e-6)
        assert found[layer].dead == pytest.approx(float((z_TF > 0).any(0).logical_not().double().mean()))
        assert found[layer].dead >= 10 / F
