"""How far a job is: one callable for the library, the console and the app."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from scx_core.display import in_notebook

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


def watched() -> Progress:
    """A notebook's bar where a notebook runs this, which goes when it is done; else silence."""
    return ConsoleProgress(notebook=True) if in_notebook() else silent


class ConsoleProgress:
    """A tqdm bar on stderr, one for each phase: it changes when the total does or the count falls back.
    `notebook`: a notebook's own bar (tqdm.auto), which goes when a phase is done."""

    def __init__(self, notebook: bool = False) -> None:
        self._bar: Any = None
        self._total = -1
        self._notebook = notebook

    def __call__(self, done: int, total: int, message: str = "") -> None:
        """Show `done` of `total`."""
        if self._bar is None or total != self._total or done < self._bar.n:
            self.close()
            self._bar, self._total = self._new(total), total
        if message:
            self._bar.set_description_str(message, refresh=False)
        self._bar.update(done - self._bar.n)
        if self._notebook and done >= total:
            self.close()

    def _new(self, total: int) -> Any:
        if not self._notebook:
            from tqdm import tqdm  # kept out of `--help`

            pause = 0.1 if sys.stderr.isatty() else LOG_PAUSE
            return tqdm(total=total, dynamic_ncols=True, mininterval=pause)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it is a bar of letters, which will do
            from tqdm.auto import tqdm as bar
        return bar(total=total, leave=False, mininterval=0.1)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
