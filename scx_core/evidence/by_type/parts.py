"""The parts of a measurement, one after another: each said, timed and kept on disk until the whole is done.

A measurement that was stopped takes the parts that it has from there and goes on with the next. A part that
cannot be read counts as absent.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scx_core.errors import ScxError
from scx_core.runs import read_json, write_json
from scx_core.runs.progress import Progress, nested

T = TypeVar("T")


def _same(value: Any) -> Any:
    return value


class Parts:
    """`total` parts of one type; kept in `folder` (None: nowhere). `seconds`: CPU seconds of each."""

    def __init__(self, label: str, total: int, progress: Progress, folder: Path | None = None) -> None:
        self.label, self.total, self.progress, self.folder = label, total, progress, folder
        self.seconds = dict[str, float]()

    def __call__(
        self,
        name: str,
        make: Callable[[Progress], T],
        dump: Callable[[T], Any] = _same,
        load: Callable[[Any], T] = _same,
    ) -> T:
        """The part of this name: from disk, or made; `dump` and `load` turn it into plain JSON and back."""
        tell = nested(self.progress, len(self.seconds), self.total, f"{self.label}: {name}")
        tell(0, 1, "")
        path = self.folder / f"{name}.json" if self.folder else None
        if path is not None and (held := _held(path, load)) is not None:
            self.seconds[name], found = held
            return found
        before = time.process_time()
        found = make(tell)
        self.seconds[name] = round(time.process_time() - before, 1)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"seconds": self.seconds[name], "part": dump(found)})
        return found

    def forget(self) -> None:
        """Delete what is on disk: the whole is saved."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _held(path: Path, load: Callable[[Any], T]) -> tuple[float, T] | None:
    if not path.exists():
        return None
    try:
        data = read_json(path)
        return float(data["seconds"]), load(data["part"])
    except (ScxError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
