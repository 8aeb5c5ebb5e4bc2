"""Proof that the fake GPU catches planted mistakes and lets pass what CUDA allows."""

import copy, sys, pathlib, threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fake_device

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def gpu():
    with fake_device.gpu(HERE, strict=True) as report:
        yield report


def device(*shape):
    return torch.randn(*shape, device="cuda")


WRONG = {
    "mixed sum": (RuntimeError, lambda x: x + torch.zeros(4)),
    "cuda 0-dim with a CPU row": (RuntimeError, lambda x: torch.zeros(4) * x.sum()),
    "CPU scalar as result": (RuntimeError, lambda x: torch.zeros(()).add_(x.sum())),
    "mixed product": (RuntimeError, lambda x: x @ torch.zeros(4, 4)),
    "mixed cat": (RuntimeError, lambda x: torch.cat([x, torch.zeros(4, 4)])),
    "mixed stack of scalars": (RuntimeError, lambda x: torch.stack([x.sum(), torch.zeros(())])),
    "gather by a CPU index": (RuntimeError, lambda x: x.gather(1, torch.zeros(4, 1, dtype=torch.int64))),
    "index_select by a CPU index": (RuntimeError, lambda x: x.index_select(0, torch.tensor([0]))),
    "index_add_ of CPU rows": (
        RuntimeError,
        lambda x: x.index_add_(0, torch.tensor([0], device="cuda"), torch.ones(1, 4)),
    ),
    "CPU tensor indexed by cuda": (RuntimeError, lambda x: torch.zeros(4)[torch.tensor([0], device="cuda")]),
    "CPU rows put into cuda": (RuntimeError, lambda x: x.__setitem__(torch.tensor([0, 1]), torch.ones(2, 4))),
    "masked_fill by a CPU mask": (
        RuntimeError,
        lambda x: x.masked_fill(torch.ones(4, 4, dtype=torch.bool), 0.0),
    ),
    "where with a CPU condition": (
        RuntimeError,
        lambda x: torch.where(torch.ones(4, 4, dtype=torch.bool), x, 0.0),
    ),
    "module left on the CPU": (RuntimeError, lambda x: nn.Linear(4, 4)(x)),
    "embedding of CPU ids": (RuntimeError, lambda x: nn.Embedding(9, 4).cuda()(torch.tensor([1]))),
    "searchsorted": (RuntimeError, lambda x: torch.searchsorted(x[0], torch.zeros(2))),
    "numpy": (TypeError, lambda x: x.numpy()),
    "asarray": (TypeError, lambda x: np.asarray(x)),
    "numpy function": (TypeError, lambda x: np.concatenate([x[0], np.zeros(2)])),
    "CPU generator": (
        RuntimeError,
        lambda x: torch.randn(3, device="cuda", generator=torch.Generator().manual_seed(0)),
    ),
    "cuda generator for a CPU tensor": (
        RuntimeError,
        lambda x: torch.randn(3, generator=torch.Generator("cuda")),
    ),
    "integer product": (RuntimeError, lambda x: x.long() @ x.long()),
    "no kernel": (RuntimeError, lambda x: torch.histogram(x[0], 4)),
    "oneDNN": (RuntimeError, lambda x: torch.ops.mkldnn._linear_pointwise(x, x, None, "none", [], "")),
    "to_mkldnn": (RuntimeError, lambda x: x.to_mkldnn()),
    "in a thread": (RuntimeError, lambda x: _in_thread(lambda: x + torch.zeros(4))),
    "in backward": (RuntimeError, lambda x: _Bad.apply(x.requires_grad_()).sum().backward()),
}
RIGHT = {
    "CPU scalar in a sum": lambda x: x + torch.tensor(2.0),
    "CPU scalar in where": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "CPU scalar in masked_fill": lambda x: x.masked_fill(x > 0, torch.tensor(0.0)),
    "CPU scalar in lerp and clamp": lambda x: torch.lerp(x, x, torch.tensor(0.5)).clamp(
        min=torch.tensor(0.0)
    ),
    "CPU indices": lambda x: x[torch.tensor([0, 1]), torch.tensor([1, 2])],
    "CPU mask as index": lambda x: x[torch.ones(4, dtype=torch.bool)],
    "put by CPU indices": lambda x: x.__setitem__(torch.tensor([0]), torch.ones(1, 4, device="cuda")),
    "put a CPU scalar": lambda x: x.__setitem__(torch.tensor([0]), torch.tensor(3.0)),
    "copies both ways": lambda x: (
        x.copy_(torch.ones(4, 4)),
        torch.zeros(4, 4).copy_(x),
        x.cpu(),
        x.to("cpu").cuda(),
    ),
    "assigning a CPU slice": lambda x: x.__setitem__(0, torch.ones(4)),
    "numpy by force": lambda x: x.numpy(force=True),
    "values to the host": lambda x: (
        x.tolist(),
        x.sum().item(),
        float(x[0, 0]),
        bool((x > 0).any()),
        len(x.nonzero()),
    ),
    "numpy numbers": lambda x: x * np.float32(2) + np.float64(1),
    "cuda generator": lambda x: torch.randn(
        3, device="cuda", generator=torch.Generator("cuda").manual_seed(1)
    ),
    "like and new": lambda x: torch.zeros_like(x) + x.new_ones(4) + torch.full((4,), 1.0, device=x.device),
    "shape in place": lambda x: (x[None].squeeze_(), x[0] @ x, x.T.contiguous().t_()),
    "sparse": lambda x: (
        torch.sparse_coo_tensor(torch.tensor([[0, 1], [1, 0]], device="cuda"), x[0, :2], (2, 4)) @ x
    ),
    "deepcopy": lambda x: copy.deepcopy(nn.Linear(4, 4).cuda())(x),
}


class _Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g + torch.zeros(4)


def _in_thread(job):
    found = []

    def run():
        try:
            job()
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if found:
        raise found[0]


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_caught(gpu, name):
    kind, job = WRONG[name]
    with pytest.raises(kind):
        job(device(4, 4))
    assert len(gpu.faults) == 1 and "test_fake_device.py:" in next(iter(gpu.faults))[1], gpu.faults


@pytest.mark.parametrize("name", RIGHT)
def test_what_cuda_allows_passes(gpu, name):
    RIGHT[name](device(4, 4))
    assert not gpu.faults


def test_without_strict_all_are_listed_and_the_run_goes_on():
    with fake_device.gpu(HERE) as report:
        x = device(4, 4)
        x + torch.zeros(4)
        assert np.asarray(x).shape == (4, 4)
    assert sorted(kind for kind, _, _ in report.faults) == ["host", "mixed"]


def test_training_gives_the_numbers_of_the_cpu(gpu):
    def trained(place):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)).to(place)
        made = torch.optim.Adam(model.parameters(), foreach=True)
        x = torch.arange(12.0, device=place).view(3, 4)
        for _ in range(3):
            made.zero_grad()
            model(x).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            made.step()
        return [p.detach().cpu() for p in model.parameters()]

    for a, b in zip(trained("cuda"), trained("cpu"), strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_casts_as_cuda_does(gpu):
    x, linear = device(4, 4), nn.Linear(4, 4).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.is_autocast_enabled("cuda") and not torch.is_autocast_enabled("cpu")
        assert linear(x).dtype == torch.bfloat16 and linear(x).softmax(-1).dtype == torch.float32
        assert linear(x).sum().dtype == torch.float32  # on a CPU it would be bfloat16
        assert nn.functional.linear(torch.zeros(1, 4), torch.zeros(2, 4)).dtype == torch.float32
    assert linear(x).dtype == torch.float32


def test_random_numbers_of_the_device_have_their_own_state(gpu):
    torch.manual_seed(0)
    cpu, state = torch.get_rng_state(), torch.cuda.get_rng_state()
    first = device(3).tolist()
    assert torch.equal(torch.get_rng_state(), cpu)
    torch.cuda.set_rng_state(state)
    assert device(3).tolist() == first != device(3).tolist()


def test_memory_is_counted_and_runs_out():
    with fake_device.gpu(HERE, memory=10_000) as report:
        x = device(1000)
        assert torch.cuda.memory_allocated() == 4000 and torch.cuda.mem_get_info() == (6000, 10_000)
        with pytest.raises(torch.OutOfMemoryError):
            x.repeat(2)
        del x
        assert torch.cuda.memory_allocated() == 0 and report.peak == 4000


def test_what_outlives_its_card_is_not_taken_off_the_next_ones_memory():
    with fake_device.gpu(HERE):
        kept = [device(1000)]
    with fake_device.gpu(HERE, memory=10_000) as report:
        x = device(1000)
        kept.clear()
        assert report.live == report.peak == 4000 and len(x) == 1000


def test_default_device(gpu):
    with torch.device("cuda"):
        assert nn.Linear(2, 2).weight.is_cuda and torch.tensor([1.0]).is_cuda and torch.zeros(2).is_cuda
    assert torch.zeros(2).device.type == "cpu"


def test_files(gpu, tmp_path):
    save_file({"x": device(3)}, tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors", device="cuda")["x"].is_cuda


def test_counters_say_where(gpu):
    x = device(4, 4)
    x[x > 0].sum().item()
    assert gpu.syncs.total() == 2 and gpu.launches.total() >= 3
    assert all(place.startswith("test_fake_device.py:") for place in gpu.launches)


def test_nothing_is_left_behind():
    with fake_device.gpu(HERE):
        pass
    assert not torch.cuda.is_available() and torch.tensor([1.0]).device.type == "cpu"
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")


def test_memory_that_runs_out_in_a_backward_pass_is_raised_at_its_end():
    with fake_device.gpu(HERE) as report:
        x = device(1000).requires_grad_()
        y = (x.exp() * x.sin()).cos().sum()
        before = report.memory = report.live
        with pytest.raises(torch.OutOfMemoryError):
            torch.autograd.grad(y, x)
        report.memory = None
        assert report.live <= before and report.peak >= before
        (2 * x).sum().backward()
        assert x.grad.tolist() == [2.0] * 1000
