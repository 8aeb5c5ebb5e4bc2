"""Coloured text as HTML: the cell sentence by its genes' frozen attribution, and examples of a feature, each
token by the feature's activation there."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.figures.drawing.text import number, percent, plain, signed

from . import captions
from .drawing import colours

_FRAME = 'style="line-height:2.05;font-family:inherit;font-size:14px;overflow-wrap:anywhere"'
_QUIET = "opacity:0.75"  # of the page's own ink, so that it is read on light and on dark
_KEY = 'style="display:flex;align-items:center;gap:8px;margin-bottom:10px;font-size:12px;{}"'


def sentence_html(
    circuit: Circuit, *, markers: frozenset[str] = frozenset(), max_genes: int | None = None
) -> str:
    """A fragment of HTML with inline styles only, no scripts, every name escaped.

    One cell: its sentence in order. A consensus has none, so its genes stand in the order of their mean
    rank. Known markers are underlined and end in a star. `max_genes` shortens the list and says so.
    """
    effects = {row.gene: row for row in circuit.genes}
    genes = circuit.sentence or tuple(
        row.gene for row in sorted(circuit.genes, key=lambda row: (row.rank, row.gene))
    )
    shown = genes if max_genes is None else genes[:max_genes]
    limit = max((abs(row.effect) for row in circuit.genes), default=0.0)
    spans = [_gene(gene, effects.get(gene), limit, gene in markers, circuit) for gene in shown]
    if len(shown) < len(genes):
        spans.append(f'<span style="{_QUIET}">and {len(genes) - len(shown):,} more</span>')
    counts = counts_of(circuit)
    star = f"known marker; {count_words(counts)}" if counts else "known marker"
    grey = captions.signs(circuit)[2] if any(captions.not_told(row.q) for row in circuit.genes) else ""
    key = _colour_key(limit, star if markers else "", circuit.target.unit, grey)
    return f"<div>{key}<div {_FRAME}>{' '.join(spans)}</div></div>"


def _gene(gene: str, effect: GeneEffect | None, limit: float, marker: bool, circuit: Circuit) -> str:
    shown = captions.called(circuit, effect.effect, effect.q) if effect else 0.0
    fill = colours.shown_colour(shown, limit) if effect else colours.PAPER
    style = (
        f"background:{fill};color:{colours.ink_on(fill)};padding:2px 6px;border-radius:6px;white-space:nowrap"
    )
    if marker:
        style += f";font-weight:600;border-bottom:2px solid {colours.MARKER_FILL}"
    name = html.escape(plain(gene, 40) or "(no name)")
    star = f'<span style="color:{colours.MARKER_LINE}" aria-hidden="true"> ★</span>' if marker else ""
    hover = html.escape("\n".join(_hover(gene, effect, marker, circuit)))
    return f'<span style="{style}" title="{hover}">{name}{star}</span>'


def _hover(gene: str, effect: GeneEffect | None, marker: bool, circuit: Circuit) -> list[str]:
    if effect is None:
        return [plain(gene), "no attribution was computed"]
    lines = [
        plain(gene),
        f"frozen attribution {signed(effect.effect)} {circuit.target.unit}"
        + (f" (sd {number(effect.sd, 2)})" if effect.sd else ""),
        *captions.tested(circuit, effect.effect, effect.q),
    ]
    if circuit.scope != "cell":
        lines.append(
            f"in {percent(effect.share)} of {circuit.n_cells:,} cells, mean rank {number(effect.rank)}"
        )
    else:
        lines.append(f"rank {effect.rank:.0f}")
    return [*lines, "known marker"] if marker else lines


def _colour_key(limit: float, star: str, unit: str, grey: str = "") -> str:
    stops = ", ".join(colours.effect_colour(step / 12, 1.0) for step in range(-12, 13))
    ground = f"background:linear-gradient(90deg, {stops})"
    bar = f'<span style="width:120px;height:10px;border-radius:3px;{ground}"></span>'
    ends = f"<span>−{number(limit, 2)}</span>{bar}<span>+{number(limit, 2)} {html.escape(unit)}</span>"
    note = f'<span style="margin-left:12px">★ {html.escape(star)}</span>' if star else ""
    if grey:
        box = f"background:{colours.UNTOLD};color:{colours.INK};padding:0 6px;border-radius:6px"
        note = f'<span style="margin-left:12px;{box}">{html.escape(grey)}</span>{note}'
    return f"<div {_KEY.format(_QUIET)}><span>Effect on the answer's score:</span>{ends}{note}</div>"


_ROW = (
    "display:flex;gap:14px;padding:5px 0;border-bottom:1px solid rgba(128,138,148,.35);align-items:baseline"
)
_ABOUT = "flex:0 0 9.5rem;font-size:12px;{};overflow:hidden;text-overflow:ellipsis"
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
    about = f'<div style="{_ABOUT.format(_QUIET)}"><b>{first}</b><br>{second}</div>'
    return f'<div style="{_ROW}">{about}<div style="{_TEXT}">{tokens}</div></div>'


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
