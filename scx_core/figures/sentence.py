"""The cell sentence as HTML: every gene on a ground coloured by its frozen attribution, with a key."""

from __future__ import annotations

import html

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.figures.drawing.text import number, percent, plain, signed

from . import words
from .drawing import colours

_FRAME = 'style="line-height:2.05;font-family:inherit;font-size:14px;overflow-wrap:anywhere"'
_KEY = 'style="display:flex;align-items:center;gap:8px;margin-bottom:10px;font-size:12px;color:{}"'


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
        spans.append(f'<span style="color:{colours.MUTED}">and {len(genes) - len(shown):,} more</span>')
    counts = counts_of(circuit)
    star = f"known marker; {count_words(counts)}" if counts else "known marker"
    key = _colour_key(limit, star if markers else "", circuit.target.unit)
    return f"<div>{key}<div {_FRAME}>{' '.join(spans)}</div></div>"


def _gene(gene: str, effect: GeneEffect | None, limit: float, marker: bool, circuit: Circuit) -> str:
    shown = words.called(circuit, effect.effect, effect.q) if effect else 0.0
    fill = colours.effect_colour(shown, limit) if effect else colours.PAPER
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
        *words.tested(circuit, effect.effect, effect.q),
    ]
    if circuit.scope != "cell":
        lines.append(
            f"in {percent(effect.share)} of {circuit.n_cells:,} cells, mean rank {number(effect.rank)}"
        )
    else:
        lines.append(f"rank {effect.rank:.0f}")
    return [*lines, "known marker"] if marker else lines


def _colour_key(limit: float, star: str, unit: str) -> str:
    stops = ", ".join(colours.effect_colour(step / 12, 1.0) for step in range(-12, 13))
    ground = f"background:linear-gradient(90deg, {stops})"
    bar = f'<span style="width:120px;height:10px;border-radius:3px;{ground}"></span>'
    ends = f"<span>−{number(limit, 2)}</span>{bar}<span>+{number(limit, 2)} {html.escape(unit)}</span>"
    note = f'<span style="margin-left:12px">★ {html.escape(star)}</span>' if star else ""
    return f"<div {_KEY.format(colours.MUTED)}><span>Effect on the answer's score:</span>{ends}{note}</div>"
