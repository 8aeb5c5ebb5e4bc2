"""How far a job is: one callable for the library, the console and the app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

LOG_PAUSE = 30.0  # seconds between two states of a bar where they end up in a file

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""


def silent(done: int, total: int, message: str = "") -> None:
    """Says nothing."""


def nested(progress: Progress, at: int, parts: int, name: str = "", steps: int = 100) -> Progress:
    """What tells of the part number `at` of so many: its own count as a share of `steps`, its message behind
    its name. What the name begins with ("Dendritic: circuit") the message need not say again."""
    whose = name.partition(": ")[0]

    def tell(done: int, total: int, message: str = "") -> None:
        share = int(steps * min(1.0, done / max(1, total)))
        rest = message.removeprefix(whose).lstrip(": ") if whose else message
        progress(at * steps + share, parts * steps, f"{name}: {rest}" if name and rest else name or rest)

    return tell


class ConsoleProgress:
    """A tqdm bar on stderr, one for each phase: it changes when the total does or the count falls back."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._total = -1

    def __call__(self, done: int, total: int, message: str = "") -> None:
        """Show `done` of `total`."""
        if self._bar is None or total != self._total or done < self._bar.n:
            self.close()
            from tqdm import tqdm  # kept out of `--help`

            pause = 0.1 if sys.stderr.isatty() else LOG_PAUSE
            self._bar, self._total = tqdm(total=total, dynamic_ncols=True, mininterval=pause), total
        if message:
            self._bar.set_description_str(message, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
