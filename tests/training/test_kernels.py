"""The compiled loops against plain torch, with ties, empty rows and values below 0."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scx_core.training.ops import sparse

kernels = pytest.importorskip("scx_core.training.ops.kernels", reason="numba is not installed")

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 40))
SOME = st.sampled_from([-2.0, -0.5, 0.0, 1e-30, 0.25, 1.0, 1.5, 3.0e20])  # few, so that many are equal
ANY = st.floats(-4, 4, width=32, allow_subnormal=False)  # which training takes for 0, in threads that stay


def matrices(values):
    return hnp.arrays(np.float32, SHAPES, elements=values).map(torch.from_numpy)


@settings(deadline=None)
@given(matrices(SOME) | matrices(ANY), st.integers(1, 12))
def test_tops_are_the_largest_positive_values_and_of_equal_ones_the_first(pre_TF, k):
    count_T, feature_N, value_N = kernels.tops(pre_TF, k)
    place = 0
    for t, row_F in enumerate(pre_TF.tolist()):
        order = sorted((f for f in range(len(row_F)) if row_F[f] > 0), key=lambda f: (-row_F[f], f))
        wanted = sorted(order[:k])
        n = int(count_T[t])
        assert feature_N[place : place + n].tolist() == wanted
        assert value_N[place : place + n].tolist() == [row_F[f] for f in wanted]
        place += n
    assert place == len(feature_N) == len(value_N)


@settings(deadline=None)
@given(matrices(SOME) | matrices(ANY), st.sampled_from([0.0, 0.25, 1.0]))
def test_above_is_what_comparing_finds(pre_TF, level):
    flat_N, value_N = kernels.above(pre_TF, level)
    wanted = (pre_TF.flatten() > level).nonzero()[:, 0]
    assert torch.equal(flat_N, wanted) and torch.equal(value_N, pre_TF.flatten()[wanted])


@settings(deadline=None)
@given(matrices(ANY))
def test_every_feature_may_have_a_level_of_its_own(pre_TF):
    level_F = torch.linspace(0, 2, pre_TF.shape[1])
    wanted = (pre_TF > level_F).flatten().nonzero()[:, 0]
    for found in (kernels.above, sparse.above):
        flat_N, value_N = found(pre_TF, level_F)
        assert torch.equal(flat_N, wanted) and torch.equal(value_N, pre_TF.flatten()[wanted])


def test_a_batch_that_is_worth_it_is_selected_and_learnt_as_a_small_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x_Td = torch.randn(64, 8, generator=generator)
    first = [torch.randn(*s, generator=generator) for s in ((48, 8), (48,), (48, 8))]
    found = []
    for worth in (1, 10**9):
        monkeypatch.setattr(sparse, "WORTH_COMPILING", worth)
        w = [tensor.clone().requires_grad_() for tensor in first]
        pre_TF = (x_Td @ w[0].T + w[1]).detach()
        for chosen in (sparse.select_tokens(pre_TF, 5), sparse.select_batch(pre_TF, 320, 0.1)):
            y_Td = sparse.decode_selected(x_Td, pre_TF, chosen.pattern, *w, chosen.value_N)
            y_Td.square().sum().backward()
            found.append([*chosen.pattern, chosen.value_N, y_Td.detach(), torch.tensor(chosen.threshold)])
        found.append([tensor.grad for tensor in w])
    for ours, theirs in zip(found[:2], found[3:5], strict=True):
        for place in (
            0,
            1,
            2,
            3,
            5,
        ):  # what is selected; its products are summed in another order on some processors
            assert torch.equal(ours[place], theirs[place])
    products = [(found[0][4], found[3][4]), (found[1][4], found[4][4]), *zip(found[2], found[5], strict=True)]
    for ours, theirs in products:
        assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())


@settings(deadline=None)
@given(matrices(ANY), st.integers(1, 6))
def test_largest_are_the_n_largest_of_any_sign_by_feature(pre_TF, n):
    n = min(n, pre_TF.shape[1])
    feature_Tn, value_Tn = kernels.largest(pre_TF, n)
    assert torch.equal(pre_TF.gather(1, feature_Tn), value_Tn)
    assert (feature_Tn.diff(dim=1) > 0).all()
    assert torch.equal(value_Tn.sort(dim=1).values, pre_TF.topk(n, dim=1).values.sort(dim=1).values)


@pytest.mark.parametrize("worth", [1, 10**9], ids=["compiled", "torch"])
@pytest.mark.parametrize("written", [6, 11], ids=["one layer", "several"])
def test_soft_features_are_decoded_and_learnt_as_with_dense_matrices(monkeypatch, worth, written):
    generator = torch.Generator().manual_seed(1)
    x_Td = torch.randn(50, 6, generator=generator)
    first = [torch.randn(*s, generator=generator) for s in ((30, 6), (30,), (30, written))]
    wanted_TD, scale = torch.randn(50, written, generator=generator), torch.tensor(0.7)
    monkeypatch.setattr(sparse, "WORTH_COMPILING", worth)
    found = []
    for dense in (False, True):
        monkeypatch.setattr(sparse, "sparse_kernels", lambda device, dense=dense: not dense)
        w = [tensor.clone().requires_grad_() for tensor in first]
        y_TD = sparse.decode_soft(x_Td, 4, scale, *w)
        (y_TD - wanted_TD).square().sum().backward()
        found.append([y_TD.detach(), *(tensor.grad for tensor in w)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def test_gradients_are_the_same_bits_on_any_number_of_threads(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    x_Td, g_Td, W_Fd = (torch.randn(*s, generator=generator) for s in ((40, 16), (40, 16), (25, 16)))
    chosen = sparse.select_batch(torch.randn(40, 25, generator=generator), 200)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(kernels.gradients(x_Td, g_Td, W_Fd, chosen.value_N, *chosen.pattern[:2]))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("unit", [False, True])
def test_adam_by_rows_is_torch_adam_with_what_stands_around_it(unit):
    generator = torch.Generator().manual_seed(0)
    start = torch.nn.functional.normalize(torch.randn(64, 48, generator=generator), dim=1)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    optimizer = torch.optim.Adam([theirs], lr=1e-2)
    for step in range(1, 6):
        slope = torch.randn(64, 48, generator=generator)
        optimizer.param_groups[0]["lr"] = 1e-2 / step
        kernels.adam(ours, slope, mean, square, step, 1e-2 / step, (0.9, 0.999), 1e-8, unit)
        with torch.no_grad():
            theirs.grad = slope - (slope * theirs).sum(1, keepdim=True) * theirs if unit else slope.clone()
            optimizer.step()
            if unit:
                theirs /= theirs.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(mean, optimizer.state[theirs]["exp_avg"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(square, optimizer.state[theirs]["exp_avg_sq"], atol=1e-6, rtol=1e-5)
