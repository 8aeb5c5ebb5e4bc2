"""A claim: a sentence that someone could read here, with what it stands on and what could embarrass it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Claim(NamedTuple):
    """A sentence, the figure that it stands on, the figure that could embarrass it (`beside` says whose;
    None or nan for none), the figure's 95% interval (None or nan where there is none; `beside` says so where
    it is of another figure), the number of cells or features, and whether it holds."""

    sentence: str
    figure: float
    baseline: float | None
    beside: str
    interval: tuple[float, float] | None
    n: int
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; nan becomes None, the interval a list of two."""
        bounded = self.interval is not None and all(map(math.isfinite, self.interval))
        interval = [float(end) for end in self.interval] if bounded and self.interval else None
        return self._asdict() | {
            "figure": _plain(self.figure),
            "baseline": _plain(self.baseline),
            "interval": interval,
            "n": int(self.n),
            "holds": bool(self.holds),
        }


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
