"""Selection against brute force, and the sparse arithmetic against autograd on dense matrices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scx_core.training.ops import sparse

T, F, D = 30, 24, 6


def problem(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x_Td = torch.randn(T, D, generator=generator, dtype=torch.float64)
    w = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((F, D), (F,), (F, D))]
    return x_Td, x_Td @ w[0].T + w[1], w


@given(st.integers(0, 50), st.integers(1, T * F), st.floats(-1, 5))
def test_batch_selection_is_the_largest_positive_ones_whatever_the_guess(seed, n_keep, floor):
    pre_TF = problem(seed)[1]
    chosen = sparse.select_batch(pre_TF, n_keep, floor)
    order = pre_TF.flatten().argsort(descending=True)[:n_keep]
    wanted = sorted(i for i in order.tolist() if pre_TF.flatten()[i] > 0)
    got = (chosen.pattern.token_N * F + chosen.pattern.feature_N).tolist()
    assert got == wanted
    assert chosen.threshold == min(pre_TF.flatten()[wanted].tolist())


def test_batch_selection_of_nothing_positive_is_empty():
    chosen = sparse.select_batch(-torch.ones(3, 4), 5)
    assert len(chosen.pattern.feature_N) == 0 and chosen.pattern.start_T1.tolist() == [0, 0, 0, 0]


def test_token_selection_takes_k_of_each_token():
    pre_TF = problem()[1]
    pattern = sparse.select_tokens(pre_TF, 3).pattern
    for t in range(T):
        features = pattern.feature_N[pattern.start_T1[t] : pattern.start_T1[t + 1]].tolist()
        wanted = [i for i in pre_TF[t].argsort(descending=True)[:3].tolist() if pre_TF[t, i] > 0]
        assert features == sorted(wanted)


@given(st.integers(0, 50), st.integers(1, F), st.integers(0, 2))
def test_the_threshold_of_token_selection_is_what_a_token_keeps_last_on_average(seed, k, drop):
    pre_TF = problem(seed)[1] - drop  # fewer than k are positive at some tokens, then at most
    last_T = pre_TF.sort(dim=1, descending=True).values[:, k - 1].clamp(min=0)
    chosen = sparse.select_tokens(pre_TF, k)
    assert chosen.threshold == pytest.approx(float(last_T.mean()), abs=1e-12)


@pytest.mark.parametrize("way", ["kernels", "rows", "dense"])
@pytest.mark.parametrize("n_keep", [60, 0])
def test_gradients_equal_those_of_the_dense_computation(way, n_keep, monkeypatch):
    """`kernels` is what processors do, `rows` what graphics cards do where few features are active."""
    if way == "kernels" and not sparse.sparse_kernels(torch.device("cpu")):
        pytest.skip("this PyTorch has no sparse kernels (MKL)")
    monkeypatch.setattr(sparse, "sparse_kernels", lambda device: way == "kernels")
    monkeypatch.setattr(sparse, "FEW", 1 if way == "rows" else T * F + 1)
    products = []
    if way == "rows":
        monkeypatch.setattr(sparse.nnf, "linear", lambda *a: products.append(a))
    x_Td, pre_TF, w = problem()
    pattern = sparse.select_batch(pre_TF if n_keep else -pre_TF.abs(), max(n_keep, 1)).pattern
    gate_TF = torch.zeros_like(pre_TF)
    gate_TF[pattern.token_N, pattern.feature_N] = 1
    direction_Td = torch.randn(T, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    ours = [t.clone().requires_grad_() for t in w]
    y_Td = sparse.decode_selected(x_Td, pre_TF, pattern, *ours)
    (y_Td * direction_Td).sum().backward()
    assert not products, "nothing is encoded a second time"
    dense = [t.clone().requires_grad_() for t in w]
    wanted_Td = ((x_Td @ dense[0].T + dense[1]) * gate_TF) @ dense[2]
    (wanted_Td * direction_Td).sum().backward()

    assert torch.allclose(y_Td, wanted_Td, atol=1e-12)
    for mine, theirs in zip(ours, dense, strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-12)
