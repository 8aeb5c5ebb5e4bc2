"""What the room of cells gives to others, and what it costs to enter it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from scx_core import cells

NAMES = {
    name.name: node.module.removeprefix("scx_core.cells.")
    for node in ast.walk(ast.parse(Path(cells.__file__).read_text("utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module not in ("importlib", "typing")
    for name in node.names
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_module_calls_so(name: str) -> None:
    """Also those that are imported when they are first asked for: what mypy sees is what one gets."""
    assert getattr(cells, name) is getattr(import_module(f"scx_core.cells.{NAMES[name]}"), name)
    assert name in dir(cells)


def test_nothing_else_is_given() -> None:
    assert set(cells._HOME) <= set(NAMES)
    with pytest.raises(AttributeError, match="no attribute 'open_cell'"):
        cells.open_cell  # noqa: B018


def test_the_door_is_light() -> None:
    code = (
        "import sys, scx_core.cells; print(sorted({'numpy', 'pandas', 'anndata', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
