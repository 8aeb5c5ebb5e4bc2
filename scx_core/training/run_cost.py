"""What a training has cost so far, over all the times that it was taken up again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


class Spent:
    """Tokens read by the steps, and seconds: of the steps and of what lies between them (measurements,
    checkpoints). Work that was lost in a kill and done again counts once."""

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        """`before` is the state of the checkpoint that is gone on from; of one that does not say, nothing is
        known from then on."""
        before = {"tokens": 0, "seconds": 0.0} if before is None else before
        self._known = {"tokens", "seconds"} <= before.keys()
        self._tokens, self._seconds = int(before.get("tokens", 0)), float(before.get("seconds", 0.0))
        self._since = time.perf_counter()

    def read(self, tokens: int) -> None:
        """A step read so many tokens."""
        self._tokens += tokens

    @property
    def state(self) -> dict[str, Any]:
        """Both, for a record and for a checkpoint; nothing where they are not known."""
        if not self._known:
            return {}
        seconds = self._seconds + time.perf_counter() - self._since
        return {"tokens": self._tokens, "seconds": round(seconds, 3)}
