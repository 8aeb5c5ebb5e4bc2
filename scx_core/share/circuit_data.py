"""A circuit as the page draws it: the drawing, its words, and which boxes are which features."""

from __future__ import annotations

from typing import Any

from scx_core.circuits import Circuit
from scx_core.circuits.words.whose import (
    accuracy_note,
    forbidden,
    mismatch_note,
    training_note,
    validation_note,
)
from scx_core.circuits.words.wording import (
    answer_frequency,
    competitor_sentences,
    faint_note,
    other_text_note,
)
from scx_core.figures.drawing.drawing import View
from scx_core.figures.drawing.layout import simplify
from scx_core.figures.drawing.select import boxes_of
from scx_core.figures.explain import in_words
from scx_core.figures.formats.html import drawing_data, legend_html
from scx_core.figures.report.genes import genes_part
from scx_core.figures.report.page import part_html
from scx_core.figures.table import markers_of


def circuit_data(circuit: Circuit) -> dict[str, Any]:
    """Plain values; `legend` and `genes` are HTML whose every name is escaped, all else is text."""
    drawing = simplify(circuit, View(size="screen"), markers=markers_of(circuit)[0] or frozenset())
    grave = validation_note(circuit) if forbidden(circuit) else "", mismatch_note(circuit)
    mild = faint_note(circuit), other_text_note(circuit)
    given = answer_frequency(circuit), *competitor_sentences(circuit.target)
    beside = "" if forbidden(circuit) else validation_note(circuit)
    standing = training_note(circuit), accuracy_note(circuit), beside
    note = (
        "Frozen attribution: what a gene adds to the score in the frozen model, over all paths; it is not "
        f"what the model loses without the gene. n = {circuit.n_cells:,}; 95% in brackets; q that it is 0."
    )
    return {
        "title": drawing.title,
        "subtitle": drawing.subtitle,
        "scores": drawing.scores,
        "notes": list(drawing.notes),
        "caption": drawing.caption,
        "provenance": drawing.provenance,
        "grave": [text for text in grave if text],
        "mild": [text for text in mild if text],
        "said": [" ".join(filter(None, part)) for part in (given, standing) if any(part)],
        "words": list(in_words(circuit)),
        "legend": legend_html(drawing),
        "genes": part_html(genes_part(circuit, note, None)),
        "features": _features(circuit),
        "drawing": drawing_data(drawing),
    }


def _features(circuit: Circuit) -> dict[str, list[int]]:
    """Layer and number of the feature that a box is drawn for, by the box."""
    found: dict[str, list[int]] = {}
    if circuit.scope == "difference" and any(node.id.startswith(("A:", "B:")) for node in circuit.nodes):
        return found  # of two sets
    for node in circuit.nodes:
        if node.kind == "feature" and node.layer is not None and node.feature is not None:
            for box in boxes_of(circuit, node.layer, node.feature):
                found[box] = [node.layer, node.feature]
    return found
