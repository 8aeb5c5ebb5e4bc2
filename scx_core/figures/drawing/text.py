"""Untrusted names as one safe line of text, how wide a line is, and how numbers are written."""

from __future__ import annotations

import math
import unicodedata

# Zl, Zp: line separators. Cf holds the bidirectional overrides that can turn a label around.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_NARROW = set("ijlIfrt.,:;|!'`()[]· ‘’")
_WIDE = set("MWmw@%—…<>=+~^#&")


def plain(text: object, limit: int | None = None) -> str:
    """`text` on one line: control and direction characters become spaces, runs of spaces one.

    Longer than `limit` characters, it ends in "…". Markup is left alone: each renderer escapes in the
    way of its own format.
    """
    kept = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in str(text))
    line = " ".join(kept.split())
    return line if limit is None or len(line) <= limit else line[: max(1, limit - 1)].rstrip() + "…"


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a line in the units of `size`, from character classes.

    An estimate, as the browser and the printed figure use different fonts; it leans to the wide side
    so that boxes hold their text in both.
    """
    return size * (1.1 if bold else 1.0) * sum(_em(c) for c in text)


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if unicodedata.combining(character):
        return 0.0
    if character in _NARROW:
        return 0.37
    if character in _WIDE:
        return 0.95
    return 0.7 if character.isupper() else 0.64 if character.isdigit() else 0.6


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, a true minus sign, no exponent for everyday sizes."""
    if not math.isfinite(value):
        return "not a number"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.{digits - 1}e}" if size < -4 or size > 5 else f"{value:.{max(0, digits - 1 - size)}f}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """`number` with a plus sign in front of positive values."""
    return ("+" if value > 0 else "") + number(value)


def percent(share: float) -> str:
    """A share as a percentage: whole numbers, one decimal below 10%."""
    value = 100 * share
    if not math.isfinite(value):
        return "not a number"
    return f"{value:.0f}%" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}%"


def several(count: int, one: str, many: str = "") -> str:
    """ "1 cell", "3 cells"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def fitted(words: str, room: float, size: float) -> str:
    """The words, ended by "…" where they would be wider than `room`."""
    if text_width(words, size, bold=True) <= room:
        return words
    while words and text_width(words + "…", size, bold=True) > room:
        words = words[:-1]
    return words.rstrip() + "…"


def wrapped(words: str, room: float, size: float) -> list[str]:
    """The words in lines that are at most `room` wide; a word longer than a line is cut."""
    lines: list[str] = []
    for word in words.split():
        word = fitted(word, room, size)
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def one_row(words: str, room: float, size: float = 10.0, smallest: float = 9.8) -> tuple[str, float]:
    """The words and the font size, at most `size`, at which they fit one row; cut below `smallest`."""
    size = max(smallest, min(size, size * room / max(1.0, text_width(words, size, bold=True))))
    return fitted(words, room, size), size
