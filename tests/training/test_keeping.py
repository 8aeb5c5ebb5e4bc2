"""Checkpoints by time, beside the steps, and what fails in them."""

import threading
import time

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.training import keeping
from scx_core.training.keeping import CheckpointWriter


class SlowRun:
    """Saves when it is let."""

    def __init__(self):
        self.let, self.saved = threading.Event(), []

    def save_checkpoint(self, step, tensors, state, *, score):
        self.let.wait(10)
        if step == 3:
            raise ScxError("The disk is full.", "Free it.")
        self.saved.append((step, tensors["x"].tolist(), state, score))


def test_on_a_card_steps_go_on_and_what_was_is_written(monkeypatch):
    run, x = SlowRun(), torch.zeros(2)
    with CheckpointWriter(run, torch.device("cuda")) as keep:
        keep.write(1, {"x": x}, {"a": 1}, 0.5)
        x += 1  # the next step
        assert not keep.due() and not run.saved
        run.let.set()
        keep.wait()
        assert run.saved == [(1, [0.0, 0.0], {"a": 1}, 0.5)] and keep.due()
        keep.write(3, {"x": x}, {}, None)
        with pytest.raises(ScxError, match="disk is full"):
            keep.write(4, {"x": x}, {}, None)
    with pytest.raises(ScxError), CheckpointWriter(run, torch.device("cuda")) as keep:
        keep.write(3, {"x": x}, {}, None)


def test_one_that_took_long_is_followed_later(monkeypatch):
    monkeypatch.setattr(keeping, "QUICK", 0.01)
    run = SlowRun()
    run.save_checkpoint = lambda *_, **__: time.sleep(0.03)
    keep = CheckpointWriter(run, torch.device("cpu"))
    assert keep.due()
    keep.write(1, {"x": torch.zeros(1)}, {}, None)
    assert not keep.due()
    monkeypatch.setattr(keeping, "SPACING", 0.0)
    assert keep.due()
