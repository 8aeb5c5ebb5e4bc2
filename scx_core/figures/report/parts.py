"""What a report is made of: sections of paragraphs, pictures and tables; how a number is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from scx_core.figures.drawing.text import plain

Keys = tuple[str, ...]  # one key, or mean, low, high


class Table(NamedTuple):
    """Rows as plain values, and which of their keys are shown under which title: one key, or three for a mean
    with its interval. `most`: so many rows are printed; a file holds all. `name` is that of its file."""

    name: str
    title: str
    note: str
    columns: tuple[tuple[str, Keys], ...]
    rows: tuple[Mapping[str, Any], ...]
    most: int | None = None

    @property
    def header(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(title for title, _ in self.columns)

    @property
    def shown(self) -> list[tuple[str, ...]]:
        """The rows that are printed, as text."""
        return [tuple(cell(row, keys) for _, keys in self.columns) for row in self.rows[: self.most]]


class Picture(NamedTuple):
    """A figure that is drawn when it is asked for, and its caption."""

    name: str
    caption: str
    draw: Callable[[], Figure]


class Section(NamedTuple):
    """A heading (level 1 or 2) with what stands below it: paragraphs, pictures, tables."""

    title: str
    level: int
    parts: tuple[str | Table | Picture, ...]


class Document(NamedTuple):
    """A report: `tables` are all tables that are exported, those that are not printed too."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    tables: tuple[Table, ...]
    provenance: str


def cell(row: Mapping[str, Any], keys: Keys) -> str:
    """One cell as text: "2.90 [1.99, 3.74]", three significant digits, "–" for nothing."""
    values = [row.get(key) for key in keys]
    if len(keys) == 3:
        mean, low, high = (_number(value, 2) for value in values)
        return mean if values[1] is None else f"{mean} [{low}, {high}]"
    value = values[0]
    return _number(value) if isinstance(value, float) else "–" if value is None else plain(value, 900)


def _number(value: Any, decimals: int | None = None) -> str:
    """So many decimals; else three significant digits, with a power of ten for what is tiny."""
    if value is None:
        return "–"
    if decimals is not None:
        text = f"{value + 0.0:.{decimals}f}"
        return text.removeprefix("-") if not float(text) else text.replace("-", "−")
    text = f"{value:.1e}" if value != 0 and abs(value) < 0.001 else f"{value:.3g}"
    return text.replace("-", "−")


def three(name: str) -> Keys:
    """The keys of a mean and its interval."""
    return name, f"{name}_low", f"{name}_high"


def prefixed(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """A mean with its interval under keys of its own."""
    return dict(zip(three(name), (found["mean"], found["low"], found["high"]), strict=True))
