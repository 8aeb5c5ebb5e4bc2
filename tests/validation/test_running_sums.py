"""Streaming sums against the same sums over everything at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scx_core.metrics import RunningVariance
from scx_core.sentences import ANSWER, GENE, PROMPT
from scx_core.validation.measure import ClassMeans, LayerStream, token_losses


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6), st.sampled_from([0.0, 1e4, 1e7]), st.integers(0, 99)
)
def test_variance_is_exact_however_the_tokens_are_cut_and_however_far_the_mean(sizes, offset, seed):
    y_Nd = offset + torch.randn(
        sum(sizes), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    spread = RunningVariance()
    for part in y_Nd.split(sizes):
        spread.add(part)
    mean_d = y_Nd.mean(0)
    assert spread.squares == pytest.approx(
        float((y_Nd - mean_d).square().sum()), rel=1e-6, abs=1e-9 + 1e-15 * offset
    )
    assert torch.allclose(torch.as_tensor(spread.mean_d), mean_d, rtol=1e-14)


def test_class_means_by_hand():
    means = ClassMeans()
    means.add(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([GENE, GENE, PROMPT]))
    means.add(torch.tensor([3.0]), torch.tensor([GENE]))
    assert means.of(GENE) == 2
    assert means.of(PROMPT) == 6
    assert means.total == 3
    assert math.isnan(means.of(ANSWER))


def test_layer_sums_by_hand():
    stream = LayerStream()
    y_Nd = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]])
    guess_Nd = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 5.0]])
    z_NF = torch.tensor([[9.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 2.0, 0.0]])
    kinds = torch.tensor([PROMPT, PROMPT, GENE])
    first = torch.tensor([True, False, False])
    for n in range(3):
        one = slice(n, n + 1)
        stream.add(y_Nd[one], guess_Nd[one], z_NF[one], kinds[one], first[one])
    # mean (2, 2): distances 1 + 4, 1 + 4, 0 + 16; errors 0, 4, 1
    assert stream.fvu == pytest.approx(5 / 26)
    assert stream.l0.total == pytest.approx(4 / 3)
    assert stream.l0.of(PROMPT) == 1.5
    assert stream.dead_F.tolist() == [False, False, True]
    assert stream.live_F.tolist() == [True, True, False]
    # position 0 left out: 1 + 3 on the prompt, 2 on the gene
    assert stream.prompt_mass == pytest.approx(4 / 6)
    # feature 0 fires on the prompt only, feature 1 holds 3 of 5 there
    assert stream.gene_features == 0


def test_live_needs_more_than_one_in_ten_thousand():
    stream = LayerStream()
    z_NF = torch.zeros(20_000, 2)
    z_NF[:2, 0] = 1
    z_NF[:3, 1] = 1
    nothing_Nd = torch.zeros(20_000, 1)
    kinds = torch.full((20_000,), GENE)
    stream.add(nothing_Nd, nothing_Nd, z_NF, kinds, kinds == PROMPT)
    assert stream.live_F.tolist() == [False, True]
    assert not stream.dead_F.any()
    assert math.isnan(stream.fvu)


def test_kl_and_cross_entropy_by_hand():
    class Two:
        """A model of two tokens whose unembedding is the identity."""

        unembedding = torch.eye(2)
        model = type("M", (), {"get_output_embeddings": staticmethod(torch.nn.Identity)})
        facts = type("F", (), {"logit_cap": None})

    own, other = torch.tensor([[np.log(0.25), np.log(0.75)]]), torch.tensor([[np.log(0.5), np.log(0.5)]])
    found = list(token_losses(Two, [own, other], torch.tensor([1]), other))
    (ce_N, kl_N), (other_ce_N, other_kl_N) = found
    assert float(ce_N) == pytest.approx(-np.log(0.75))
    assert float(kl_N) == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    assert float(other_ce_N) == pytest.approx(-np.log(0.5)) and float(other_kl_N) == 0
