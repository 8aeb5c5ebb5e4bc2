"""A claim: a sentence that someone could read here, with what it stands on and what could embarrass it; and
the table of all claims, in plain text or Markdown, from the JSON of `scx claims`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scx_core.evidence.rankings.rankings import markdown, plain


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


HEADER = ("sentence", "figure [95%]", "beside", "n", "holds")
FINE, NOTHING = 1e-3, 1e-12  # smaller figures are written with a power of ten


def claims_text(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """One table a part, each sentence with its figure, rival, n and whether it holds; then how many do."""
    cfg = result["provenance"]["config"]["claims"]
    parts = [_settings(cfg)]
    for one in result["parts"]:
        held = sum(claim["holds"] for claim in one["claims"])
        count = f"{held} of {len(one['claims'])} hold" if one["claims"] else "nothing claimed"
        mark = "## " if as_markdown else ""
        parts.append(f"{mark}{one['words']}: {count if not one['failed'] else 'failed'}")
        if one["failed"]:
            parts.append(f"Not measured: {one['failed']}")
        elif one["claims"]:
            rows = [_row(claim, "**no**" if as_markdown else "no") for claim in one["claims"]]
            parts.append(markdown(HEADER, rows) if as_markdown else plain(HEADER, rows))
    every = [claim for one in result["parts"] for claim in one["claims"]]
    parts.append(f"{sum(claim['holds'] for claim in every)} of {len(every)} sentences hold.")
    return "\n\n".join(parts)


def _settings(cfg: Mapping[str, Any]) -> str:
    tests = cfg["test_cells"] or "all"
    return (
        "Each sentence with the figure that it stands on, the rival that could do as well, 95% interval and "
        f"n. At most {cfg['cells']} cells a type, {tests} test cells, {cfg['ranked']} cells a half for "
        "rankings; each row has its n."
    )


def _row(claim: Mapping[str, Any], no: str) -> tuple[str, ...]:
    beside = claim["beside"]
    if claim["baseline"] is not None:
        beside = f"{_number(claim['baseline'])}: {beside}"
    return (
        claim["sentence"],
        _number(claim["figure"]) + _span(claim["interval"]),
        beside,
        str(claim["n"]),
        "yes" if claim["holds"] else no,
    )


def _span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{_number(interval[0])}, {_number(interval[1])}]"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if NOTHING < abs(value) < FINE:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
    text = f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return text.replace("-", "−")
