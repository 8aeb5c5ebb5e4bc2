"""A run's metrics as TensorBoard event files, for those who have it open anyway.

metrics.jsonl stays the record: at every start the event files, in the run's folder `tensorboard`, are written
anew from it, so that a resumed run has no step twice. Needs the package `tensorboard` (extra of that name).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scx_core.errors import ScxError
from scx_core.runs.progress import Progress
from scx_core.runs.run_folder import RunFolder

FOLDER = "tensorboard"
PAUSE = 5.0  # seconds between two looks at the metrics: all of them are read each time


def check_installed() -> None:
    """Raises ScxError when the package is not there."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ScxError(
            "TensorBoard is not installed.",
            "Run `pip install tensorboard`, or leave --tensorboard away: metrics.jsonl has the same figures.",
        )


@contextmanager
def mirrored(run: RunFolder, progress: Progress) -> Iterator[Progress]:
    """A progress that also brings the event files up to date, now and then and at the end.

    Raises ScxError when the package is not there.
    """
    check_installed()
    mirror = Mirror(run)

    def tell(done: int, total: int, message: str = "") -> None:
        progress(done, total, message)
        mirror.update_now_and_then()

    finished = False
    try:
        yield tell
        finished = True
    finally:
        # A job that never began may have met another that holds the run: its files are not ours.
        if finished or mirror.started:
            mirror.update()
        mirror.close()


class Mirror:
    """The event files of a run. One process at a time, the one that trains."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._writer: Any = None
        self._written: list[int] = []  # steps
        self._next_look = 0.0

    @property
    def started(self) -> bool:
        """Whether it has written anything."""
        return self._writer is not None

    def update_now_and_then(self) -> None:
        """`update`, at most every few seconds."""
        if time.monotonic() >= self._next_look:
            self.update()
            self._next_look = time.monotonic() + PAUSE

    def update(self) -> None:
        """Write the records that are new; all of them when a resumed run has dropped some."""
        records = [record for record in self.run.metrics() if isinstance(record.get("step"), int)]
        steps = [record["step"] for record in records]
        if self._writer is None or steps[: len(self._written)] != self._written:
            self._begin()
        for record in records[len(self._written) :]:
            for name, value in scalars(record).items():
                self._writer.add_scalar(name, value, record["step"])
        self._written = steps
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        folder = self.run.path / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer, self._written = SummaryWriter(str(folder)), []


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a record by TensorBoard's names: "loss"; of a list over layers "fvu/layer_0" …."""
    found: dict[str, float] = {}
    for key, value in record.items():
        values = {f"{key}/layer_{i}": one for i, one in enumerate(value)} if isinstance(value, list) else {}
        for name, one in (values or {key: value}).items():
            if key != "step" and isinstance(one, (int, float)) and not isinstance(one, bool):
                found[name] = float(one)
    return found
