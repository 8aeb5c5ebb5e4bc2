"""What all tests share: no deadline for properties, numbers that are the processor's own, one main module."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from scx_core.environment import prepare_process

prepare_process()  # numbers as the command line gives them
# A busy machine is not a bug. Examples are the same on every run, so that a test that fails says what a
# change broke; `--hypothesis-profile fuzz` looks for new ones.
settings.register_profile("scx", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("fuzz", deadline=None, print_blob=True, max_examples=600)
settings.load_profile("scx")


@pytest.fixture(scope="session", autouse=True)
def runs_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept where nobody names a place goes into a folder of the tests, not of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCX_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Training switches subnormal floats off for the whole process; the next test must not inherit that."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def threads_of_pytorch() -> Iterator[None]:
    """A library that changes their number changes the last digits of all that follows."""
    before = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    yield
    if before is not None:
        assert sys.modules["torch"].get_num_threads() == before, "a test left another number of threads"


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """A page under test runs as `__main__`, and stays it; a new process would begin by running that page."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
