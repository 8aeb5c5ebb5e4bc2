"""Runs that several processes share, and how far they may be from those of one."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from scx_core.training import train
from tests.training.builders import CODER, TRAIN, open_job, start, steady
from tests.training.test_best import BEST

NEAR = 2e-5
SHORT = replace(TRAIN, steps=16, dead_after=300, log_every=2, evaluate_every=8, checkpoint_every=4)
CASES = {
    "batchtopk": (replace(CODER, skip=True), replace(SHORT, finetune_steps=4)),
    "jumprelu": (replace(CODER, kind="jumprelu", target_l0=6.0), SHORT),
    "topk": (replace(CODER, kind="topk"), replace(SHORT, cells_per_batch=5)),  # one cell more for one of them
    "relu": (replace(CODER, kind="relu"), SHORT),
    "layers": (CODER, replace(SHORT, parallel="layers", finetune_steps=4)),
    "micro": (CODER, replace(SHORT, micro_batch_cells=2, finetune_steps=4)),
}
SHARED_BEST = (CODER, replace(BEST, parallel="layers", dead_after=300))


def begin(root: Path, model: Path, name: str, case: str, **files: int):
    """A run called `name`, with what shall happen to it beside it."""
    coder, config = {**CASES, "best": SHARED_BEST}[case]
    run = start(root, model, coder, config, name=name)
    for what, step in files.items():
        (run.path / what).write_text(str(step))
    return run


def stopped_at_6(run) -> None:
    def tell(done, total, message):
        if message == "training" and done == 6:
            signal.raise_signal(signal.SIGTERM)

    assert train(run, *open_job(run), tell) is None


def curve_near(run, other) -> None:
    found, wanted = steady(run.metrics()), steady(other.metrics())
    assert [record["step"] for record in found] == [record["step"] for record in wanted]
    for one, two in zip(found, wanted, strict=True):
        assert one.keys() == two.keys()
        for name, value in two.items():
            assert one[name] == pytest.approx(value, rel=NEAR, abs=NEAR), (one["step"], name)


def weights_near(made, other) -> None:
    for one, two in zip(made.layers, other.layers, strict=True):
        for name, tensor in two.tensors().items():
            far = float((one.tensors()[name] - tensor).abs().max()) / float(tensor.abs().max())
            assert far < 10 * NEAR, (name, far)
