"""Examples of a feature as HTML: each token on a ground coloured by the feature's activation there."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scx_core.figures.drawing.text import number, plain

from .drawing import colours

_ROW = "display:flex;gap:14px;padding:5px 0;border-bottom:1px solid {};align-items:baseline"
_ABOUT = "flex:0 0 9.5rem;font-size:12px;color:{};overflow:hidden;text-overflow:ellipsis"
_TEXT = "font-size:14px;line-height:1.9;white-space:pre-wrap;overflow-wrap:anywhere"
_PEAK = f";font-weight:600;outline:1.5px solid {colours.WARM};outline-offset:-1px"


class Shown(NamedTuple):
    """One example: its tokens, the activation at each, which of them it is an example of, and what stands
    beside it (two short lines)."""

    texts: Sequence[str]
    values: Sequence[float]
    peak: int
    about: tuple[str, str]


def examples_html(rows: Iterable[Shown], limit: float) -> str:
    """A fragment of HTML with inline styles only, no scripts, every text escaped. `limit` is the activation
    at full colour."""
    return f"<div>{''.join(_row(row, limit) for row in rows)}</div>"


def _row(row: Shown, limit: float) -> str:
    tokens = "".join(
        _token(text, value, limit, place == row.peak)
        for place, (text, value) in enumerate(zip(row.texts, row.values, strict=True))
    )
    first, second = (html.escape(plain(line, 60)) for line in row.about)
    about = f'<div style="{_ABOUT.format(colours.MUTED)}"><b>{first}</b><br>{second}</div>'
    return f'<div style="{_ROW.format(colours.FAINT)}">{about}<div style="{_TEXT}">{tokens}</div></div>'


def _token(text: str, value: float, limit: float, peak: bool) -> str:
    """A token; a blank in front of it stays outside the colour, so that words stay apart."""
    words = text.lstrip(" ")
    blank = " " if words != text else ""
    shown = html.escape(plain(words, 40) or ("⏎" if "\n" in text else "␣" if not words else "�"))
    if value <= 0 and not peak:
        return blank + shown
    fill = colours.effect_colour(value, limit)
    style = f"background:{fill};color:{colours.ink_on(fill)};border-radius:3px;padding:1px 0"
    return (
        f'{blank}<span style="{style}{_PEAK if peak else ""}" title="{html.escape(number(value))}">'
        f"{shown}</span>"
    )
