"""Cells, model and set by where they are: what a job is given, as it opens them in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from scx_core.cells import CellChoices
from scx_core.runs import option
from scx_core.runs.files import is_there


@dataclass(frozen=True)
class Sources:
    """What to open, as `open_cells`, `load_language` and `load_set` take it; paths should be absolute."""

    data: str = option("embedded", "Path of the cells, or embedded")
    model: str = option("embedded", "Folder or hub id of the model, or embedded")
    transcoders: str = option("embedded", "Folder of the set, or embedded")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    as_is: bool = option(False, "Use the set also on another text than it was trained on")
    cells: CellChoices = field(default_factory=CellChoices)


def absolute(source: str) -> str:
    """A source that is a path, from the root: a job may start in another folder."""
    return str(Path(source).resolve()) if is_there(source) else source
