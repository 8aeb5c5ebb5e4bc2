"""A tiny model on disk, and one training of it from start to end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scx_core.training import train
from tests.tiny import save_tiny
from tests.training.builders import open_job, start


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, model):
    run = start(tmp_path_factory.mktemp("runs"), model)
    return run, train(run, *open_job(run))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As in each of the processes: on more threads a sum runs in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
