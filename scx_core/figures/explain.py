"""A circuit in five plain sentences, made from its numbers: which genes, which of them known markers, what
is not explained, how often the model gives the answer, what was tested.

Each is one that a reader without the methods can repeat, and none says more than the record holds. A record
may be anybody's: escape what becomes HTML.
"""

from __future__ import annotations

from collections.abc import Mapping

from scx_core.circuits.circuit import LEAST_HOLDERS, Circuit, GeneEffect, MeasuredMean
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.circuits.words.wording import (
    answer_frequency,
    donors_tested,
    faint_note,
    listed,
    statistics_sentences,
)
from scx_core.figures.drawing.text import number, percent, plain, several, signed
from scx_core.figures.table import Leading, held_by_few, leading
from scx_core.statistics.hypothesis_tests import Q

NAMED, TOP = 5, 10


def explain(circuit: Circuit) -> tuple[str, ...]:
    """The five sentences, in this order."""
    return (_genes(circuit), _markers(circuit), _unexplained(circuit), _right(circuit), _tested(circuit))


def in_words(circuit: Circuit) -> tuple[str, ...]:
    """The five sentences and all that the tests say, each count once."""
    tests = statistics_sentences(circuit)
    last = _tested(circuit, counted=not tests)
    return (*explain(circuit)[:-1], last, *tests)


def _sure(gene: GeneEffect) -> bool:
    return gene.q is None or gene.q < Q


def _genes(circuit: Circuit) -> str:
    """Which genes, each with its effect; which way they speak."""
    unit, n = circuit.target.unit, several(circuit.n_cells, "cell")
    where = "In this cell" if circuit.scope == "cell" else f"Over {n}"
    rows = sorted(
        (row for row in circuit.genes if row.effect and _sure(row)), key=lambda row: -abs(row.effect)
    )
    if not rows:
        return f"{where}, no gene's effect can be told from 0."
    up = [f"{plain(row.gene, 24)} ({signed(row.effect)})" for row in rows[:TOP] if row.effect > 0][:NAMED]
    down = [f"{plain(row.gene, 24)} ({signed(row.effect)})" for row in rows[:TOP] if row.effect < 0][:NAMED]
    what = plain(circuit.target.answer or circuit.target.label, 60)
    if circuit.scope == "difference":
        both = circuit.provenance.get("compared")
        first, second = (
            (plain(str(name), 40) for name in both)
            if isinstance(both, (list, tuple)) and len(both) == 2
            else ("the first side", "the second side")
        )
        parts = [
            f"more in {first}: {listed(up)}" if up else "",
            f"more in {second}: {listed(down)}" if down else "",
        ]
        return f"{where}, the genes whose effect differs most are, {'; '.join(filter(None, parts))} ({unit})."
    parts = [
        f"{listed(up)} add most to the score of {what}" if up else "",
        f"{listed(down)} take most from it" if down else "",
    ]
    return f"{where}, {', and '.join(filter(None, parts))} (frozen attribution, {unit})."


def _markers(circuit: Circuit) -> str:
    """How many of the strongest are known markers, beside rankings that need no model."""
    counts = counts_of(circuit)
    if counts is None:
        return "No list of known markers that ships here has this type, so nothing is said of markers."
    words = count_words(counts)
    return f"{words[:1].upper()}{words[1:]}."


def _unexplained(circuit: Circuit) -> str:
    """What no feature of the picture accounts for."""
    scores = circuit.scores
    parts = [
        f"{percent(scores[key])} {words}"
        for key, words in (
            ("error_share", "of the influence starts at errors of the transcoders"),
            ("bias_share", "of what the nodes receive is bias"),
            ("unexplored_share", "of the influence is outside the chosen features"),
        )
        if key in scores
    ]
    faint = faint_note(circuit)
    if not parts:
        return faint or "The record does not say how much is left unexplained."
    return f"Not explained by genes and features: {listed(parts)}." + (f" {faint}" if faint else "")


def _right(circuit: Circuit) -> str:
    """How often the model gives the answer that is explained."""
    words = answer_frequency(circuit)
    if words:
        return words
    if circuit.scope == "difference":
        return "How often the model gives each answer is with the circuits of the two sides."
    return "Whether the model gives this answer for these cells was not asked."


def _tested(circuit: Circuit, counted: bool = True) -> str:
    """What was tested, and by what: statistics over cells, interventions on the real model. `counted`: how
    many genes the tests told from 0 too."""
    stated = circuit.provenance.get("statistics")
    families = stated.get("families") if isinstance(stated, Mapping) else None
    genes = families.get("genes") if isinstance(families, Mapping) else None
    parts = []
    if (
        counted
        and isinstance(genes, Mapping)
        and isinstance(genes.get("found"), int)
        and isinstance(genes.get("tested"), int)
    ):
        verb = "differ between the sides" if circuit.scope == "difference" else "are told from 0"
        parts.append(f"{genes['found']:,} of {genes['tested']:,} genes {verb} (q < {Q})")
    by = leading(circuit)
    measured = [row for row in circuit.genes if by in ("gap", "text") and getattr(row, by)]
    if not measured:
        parts.append("nothing was taken from the real model, so this is an account of the frozen one")
    else:
        parts.append(f"{len(measured):,} genes were taken from the real model one by one")
        parts.append(_loses_most(circuit, measured, by))
    over = donors_tested(circuit) if counted else []
    return " ".join([f"Tested: {'; '.join(parts)}.", *over])


def _loses_most(circuit: Circuit, measured: list[GeneEffect], by: Leading) -> str:
    """Without which gene the real model loses most over all cells, with interval and n, beside the next one;
    a gene that few cells hold is not named."""
    least = min(LEAST_HOLDERS, circuit.n_cells)
    enough = [row for row in measured if not held_by_few(circuit, row, by)]
    ranked = sorted(
        ((found, row.gene) for row in enough if (found := row.per_cell(by))),
        key=lambda pair: (-pair[0].mean, pair[1]),
    )
    if not ranked:
        return f"no gene was taken from {least} cells, so none is named"
    if ranked[0][0].mean <= 0:
        return "it loses nothing without any of them"
    first, *rest = ranked[:2]
    words = f"it loses most without {_loss(circuit, *first)}"
    if rest:
        words += f", then {_loss(circuit, *rest[0])}{_apart(first[0], rest[0][0])}"
    if circuit.scope == "cell":
        return words
    few = f"; genes in fewer than {least} cells are not ranked" if len(enough) < len(measured) else ""
    return f"{words} (means over all cells, 0 where a cell lacks the gene{few})"


def _loss(circuit: Circuit, found: MeasuredMean, gene: str) -> str:
    """ "FTL: 0.56 nats [0.31, 0.80], n = 28 of 30"."""
    known = found.low is not None and found.high is not None
    ends = f" [{number(found.low or 0.0)}, {number(found.high or 0.0)}]" if known else ""
    n = "" if circuit.scope == "cell" else f", n = {found.n} of {_asked(circuit)}"
    ends = ends or (", no interval" if n else "")
    return f"{plain(gene, 24)}: {number(found.mean)} {circuit.target.unit}{ends}{n}"


def _asked(circuit: Circuit) -> int:
    """The cells that genes were taken from: the circuit's, or unseen ones of the same type."""
    stated = circuit.provenance.get("knockouts")
    cells = stated.get("cells") if isinstance(stated, Mapping) else None
    return len(cells) if isinstance(cells, list) and cells else circuit.n_cells


def _apart(first: MeasuredMean, second: MeasuredMean) -> str:
    """Whether the larger mean's interval lies above the other's; nothing where one has none."""
    if first.low is None or second.high is None:
        return ""
    return ": the intervals overlap" if first.low <= second.high else ": the intervals are apart"
