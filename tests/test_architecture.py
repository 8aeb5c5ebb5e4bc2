"""The house: which room may import which, how full a room may be, and that an import changes nothing."""

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
    assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= 16
