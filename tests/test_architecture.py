"""The house: which room may import which, how full a room may be, and that an import changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
ROOMS = [folder for top in ("scx_core", "pages") for folder in [ROOT / top, *(ROOT / top).rglob("*/")]]


def test_a_room_imports_only_rooms_below_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=None) == 0


@pytest.mark.parametrize("room", [r for r in ROOMS if r.name != "__pycache__"], ids=lambda r: r.name)
def test_no_room_is_crowded(room):
    assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= 15


UNCHANGED = """
import importlib, os, pkgutil, sys, warnings
import numba, scanpy, sympy, torch, transformers  # what they set is theirs
before, filters = dict(os.environ), list(warnings.filters)
import scx_core
for module in pkgutil.walk_packages(scx_core.__path__, "scx_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
ours = [one for one in warnings.filters if one not in filters]
theirs = {"TORCHINDUCTOR_CACHE_DIR"}  # PyTorch's, when a part of it is first used
changed = {name for name in {*os.environ, *before} if os.environ.get(name) != before.get(name)}
assert changed <= theirs, changed
assert not ours, ours
"""


def test_an_import_leaves_the_process_as_it_was():
    """Neither variables nor warning filters, of the package alone or of all its modules."""
    alone = "import os; before = dict(os.environ); import scx_core; assert dict(os.environ) == before"
    for words in (["-W", "error", "-c", alone], ["-c", UNCHANGED]):
        subprocess.run([sys.executable, *words], cwd=ROOT, env=clean_environment(), check=True)


def clean_environment() -> dict[str, str]:
    """Without what an entry point sets, such as this test run."""
    from scx_core.environment import VARIABLES

    return {name: value for name, value in os.environ.items() if name not in VARIABLES}
