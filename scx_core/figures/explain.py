"""A circuit in five plain sentences, made from its numbers: which genes, which of them known markers, what
is not explained, how often the model gives the answer, what was tested.

Each is one that a reader without the methods can repeat, and none says more than the record holds. A record
may be anybody's: escape what becomes HTML.
"""

from __future__ import annotations

from collections.abc import Mapping

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.circuits.words.wording import answer_frequency, faint_note, listed, statistics_sentences
from scx_core.figures.drawing.text import number, percent, plain, several, signed
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
            ("error_share", "of the input is error of the transcoders"),
            ("bias_share", "is biases"),
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
    measured = [(row.gap or row.text, row.gene) for row in circuit.genes if row.gap or row.text]
    if not measured:
        parts.append("nothing was taken from the real model, so this is an account of the frozen one")
    else:
        most, gene = max(measured, key=lambda pair: pair[0].mean if pair[0] else 0.0)
        loss = number(most.mean) if most else ""
        parts.append(
            f"{len(measured):,} genes were taken from the real model one by one; it loses most "
            f"without {plain(gene, 24)} ({loss} {circuit.target.unit})"
        )
    return f"Tested: {'; '.join(parts)}."
