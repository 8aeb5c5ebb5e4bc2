"""When a run's state is kept, and who waits: checkpoints by the time that they take, beside the steps.

At 410 million parameters a checkpoint is 4.8 GB: every hundred steps of a card it would take as long as the
steps. So one that took long is followed by the next only after `SPACING` times as long, and where a card
computes, its tensors are copied to main memory and written by a thread while the steps go on. Each is whole
or does not count, wherever the process ends, and holds the state after exactly that step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch

from scx_core.errors import ScxError
from scx_core.runs import RunFolder

SPACING = 20  # so many times the seconds of the last one lie between two: at most a twentieth goes into them
QUICK = 1.0  # seconds up to which a checkpoint costs nothing that one would notice


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time; leaving the block waits for the last. What fails in a
    write is raised by the next one, or at the end."""

    def __init__(self, run: RunFolder, device: torch.device) -> None:
        self._run, self._beside = run, device.type == "cuda"
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._seconds, self._ended = 0.0, time.monotonic()

    def due(self) -> bool:
        """Whether enough has passed since the last one."""
        if self._thread is not None and self._thread.is_alive():
            return False
        return self._seconds <= QUICK or time.monotonic() - self._ended >= SPACING * self._seconds

    def write(
        self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], score: float | None
    ) -> None:
        """Keep the state after `step`. Raises ScxError when this write or the one before met a full disk."""
        self.wait()
        if not self._beside:
            self._write(step, dict(tensors), state, score)
            self._raise()
            return
        here = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        self._thread = threading.Thread(target=self._write, args=(step, here, dict(state), score))
        self._thread.start()

    def wait(self) -> None:
        """Until the last one is on the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._raise()

    def _write(
        self, step: int, tensors: dict[str, torch.Tensor], state: Mapping[str, Any], score: float | None
    ) -> None:
        since = time.monotonic()
        try:
            self._run.save_checkpoint(step, tensors, state, score=score)
        except (ScxError, OSError, RuntimeError) as error:  # raised where the steps are
            self._error = error
        self._ended = time.monotonic()
        self._seconds = self._ended - since

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait; an error of the last write is not to hide that of the block."""
        if kind is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()
