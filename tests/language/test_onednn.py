"""Products by the faster library: the same numbers to rounding, and gradients, and model on disk."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as nnf

from scx_core.language import addmm_, bmm, linear, load_language, mm
from scx_core.language.numerics import onednn as products
from tests.tiny import freed_at_once, save_tiny


@pytest.fixture(autouse=True)
def nothing_is_too_small(request, monkeypatch):
    """But where a test is about that."""
    if "small" not in request.node.name:
        monkeypatch.setattr(products, "LEAST", 1)


known = pytest.mark.skipif(not products.at_hand(), reason="this PyTorch lacks the operator")


@known
@pytest.mark.parametrize("shape", [(64, 8), (3, 40, 8), (5, 8)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients_are_those_of_pytorch(shape, bias):
    torch.manual_seed(0)
    first = [torch.randn(*shape), torch.randn(12, 8), torch.randn(12) if bias else None]
    found = []
    for product in (linear, nnf.linear):
        given = [None if t is None else t.clone().requires_grad_() for t in first]
        y = product(*given)
        (y * torch.arange(12)).square().sum().backward()
        found.append([y.detach(), *(t.grad for t in given if t is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@known
def test_only_what_is_asked_for_is_differentiated():
    x, weight = torch.randn(40, 8, requires_grad=True), torch.randn(12, 8)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(40, 8))
    assert weight.grad is None


@pytest.mark.parametrize("x", [torch.randn(4, 8), torch.randn(40, 8).double(), torch.randn(40, 8).bfloat16()])
def test_few_rows_and_other_precisions_take_the_usual_way(x, monkeypatch):
    monkeypatch.setattr(products, "_product", None)
    weight = torch.randn(12, 8, dtype=x.dtype)
    assert torch.equal(linear(x, weight), nnf.linear(x, weight))


@pytest.fixture
def counted(monkeypatch):
    """The products that oneDNN is asked for."""
    calls, product = [], products._product
    monkeypatch.setenv("SCX_ONEDNN", "1")
    monkeypatch.setattr(products, "_product", lambda *given: calls.append(given) or product(*given))
    return calls


@known
def test_products_of_matrices_are_those_of_pytorch(counted):
    x, w = torch.randn(40, 8), torch.randn(8, 12)
    for left in (x, torch.randn(8, 70)[:, 3:43].T, torch.randn(40, 20)[:, :8]):  # also with gaps
        for right in (w, torch.randn(12, 8).T):
            torch.testing.assert_close(mm(left, right), left @ right)
            total = torch.ones(40, 12)
            addmm_(total, left, right)
            torch.testing.assert_close(total, 1 + left @ right)
    assert len(counted) == 12


@known
def test_a_right_factor_with_gaps_is_left_to_pytorch(counted):
    """Of one oneDNN makes a product by plain loops."""
    x, w = torch.randn(40, 8), torch.randn(8, 20)[:, :12]
    out = torch.empty(40, 12)
    assert mm(x, w, out) is out
    torch.testing.assert_close(out, x @ w)
    a, b = torch.randn(2, 1000, 64), torch.randn(2, 64, 40)[:, :, :30]
    torch.testing.assert_close(bmm(a, b), a @ b, rtol=1e-4, atol=1e-4)
    assert not counted


@pytest.mark.parametrize("shape", [(40, 0, 12), (40, 8, 0), (0, 8, 12)], ids=str)
def test_products_of_nothing(shape, counted):
    m, k, n = shape
    x, w = torch.randn(m, k), torch.randn(n, k)
    for found in (linear(x, w), mm(x, w.T), bmm(x[None], w.T[None])[0]):
        assert torch.equal(found, torch.zeros(m, n))
    assert not counted


@known
@pytest.mark.parametrize("n_rows", [1000, 40], ids=["large", "small"])
def test_products_of_a_batch_are_those_of_pytorch(n_rows, counted):
    a, b = torch.randn(64, 3, n_rows).permute(1, 2, 0), torch.randn(3, 64, 30)
    whole = torch.zeros(3, n_rows + 5, 30)
    assert bmm(a, b, whole[:, 2:-3]).data_ptr() == whole[:, 2:].data_ptr()
    torch.testing.assert_close(whole[:, 2:-3], a @ b, rtol=1e-4, atol=1e-4)
    assert not whole[:, :2].any() and not whole[:, -3:].any()
    torch.testing.assert_close(bmm(a, b), a @ b, rtol=1e-4, atol=1e-4)
    assert len(counted) == (6 if n_rows == 1000 else 0), "small products do not pay for their own call"


def test_small_products_do_not_pay_for_a_program_of_their_shape(counted):
    x, weight = torch.randn(100, 128), torch.randn(128, 128)
    linear(x, weight), mm(x, weight), bmm(x[None], weight[None]), addmm_(torch.zeros(100, 128), x, weight)
    assert not counted
    if products.at_hand():
        linear(torch.randn(2000, 128), weight)
        assert len(counted) == 1


@known
def test_a_loaded_model_takes_it_without_gradients_and_is_saved_as_it_was(tmp_path, monkeypatch):
    lm = load_language(save_tiny(tmp_path / "model"), device="cpu", dtype="float32")
    calls, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *given: calls.append(given) or product(*given))
    ids_BT = torch.arange(80).view(2, 40)
    with torch.no_grad():
        fast = lm.model(ids_BT).logits
    assert calls
    calls.clear()
    usual = lm.model(ids_BT).logits
    assert not calls, "with gradients nothing changes"
    torch.testing.assert_close(fast, usual.detach(), rtol=1e-4, atol=1e-5)

    lm.model.save_pretrained(tmp_path / "again")
    again = load_language_weights(tmp_path / "again")
    assert again.keys() == load_language_weights(tmp_path / "model").keys()
    twin = copy.deepcopy(lm.model)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.zero_()
        torch.testing.assert_close(twin(ids_BT).logits, fast)


@known
def test_weights_of_a_model_that_nobody_needs_are_freed_at_once(tmp_path):
    held = [load_language(save_tiny(tmp_path / "model"), device="cpu", dtype="float32", onednn=True).model]
    assert freed_at_once(held)


@known
def test_nobody_gets_it_unasked(tmp_path, monkeypatch):
    x, weight, calls = torch.randn(40, 8), torch.randn(12, 8), []
    product = products._product
    monkeypatch.setattr(products, "_product", lambda *given: calls.append(given) or product(*given))
    folder = save_tiny(tmp_path / "model")
    for asked, onednn, patched in (
        ("1", None, True),
        ("0", None, False),
        ("0", True, True),
        ("1", False, False),
    ):
        monkeypatch.setenv("SCX_ONEDNN", asked)
        lm = load_language(folder, device="cpu", dtype="float32", onednn=onednn)
        assert isinstance(lm.part(0, "values"), products.OneDnnLinear) == patched, (asked, onednn)
    calls.clear()
    monkeypatch.delenv("SCX_ONEDNN")
    assert torch.equal(linear(x, weight), nnf.linear(x, weight)) and not calls


def load_language_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


GROWTH = """
from scx_core.environment import prepare_process
prepare_process()
import psutil, torch
from scx_core.language import linear
torch.set_grad_enabled(False)
weight, x = torch.randn(1024, 128), torch.randn(4000, 128)
memory = psutil.Process().memory_info
for rows in range(2000, 2500):
    if rows == 2100:
        before = memory().rss
    linear(x[:rows], weight)
print((memory().rss - before) >> 20)
"""


@known
def test_batches_of_ever_new_length_do_not_fill_the_memory():
    alone = os.environ | {"SCX_KEEP_MEMORY": "0"}  # not what the process keeps of its own free memory
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, env=alone
    )
    assert int(done.stdout) < 60, "MiB; with the libraries' own limits some 250"
