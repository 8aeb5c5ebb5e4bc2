"""A circuit, and a difference of two, in a notebook: what forbids reading them, the drawing, the genes."""

from __future__ import annotations

from scx_core.circuits import Circuit
from scx_core.circuits.difference import Difference
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
from scx_core.figures.drawing.drawing import Drawing, View
from scx_core.figures.drawing.layout import simplify
from scx_core.figures.explain import in_words
from scx_core.figures.formats.html import circuit_page
from scx_core.figures.notebook.page import Banner, Block, Fold, Frame
from scx_core.figures.report.genes import genes_part
from scx_core.figures.table import markers_of

AROUND, LEAST, MOST = 230, 420, 900  # pixels: of head and legend, of the whole frame


def circuit_blocks(circuit: Circuit) -> list[Block]:
    """Banners as on the page Circuits, the drawing, whether the model gives this answer, genes, words."""
    return [*banners(circuit), drawing_frame(circuit), *_below(circuit)]


def difference_blocks(found: Difference) -> list[Block]:
    """The difference, and both sides in folds."""
    sides = [
        Fold(f"{name}: its own circuit", (*banners(side), drawing_frame(side), *_below(side)))
        for name, side in zip(found.names, (found.first, found.second), strict=True)
    ]
    return [*circuit_blocks(found.difference), *sides]


def banners(circuit: Circuit) -> list[Block]:
    """In red that circuits of this model are not to be read, or that the model does not give the answer; in
    orange that there is next to nothing to explain, or another text."""
    grave = validation_note(circuit) if forbidden(circuit) else "", mismatch_note(circuit)
    mild = faint_note(circuit), other_text_note(circuit)
    found: list[Block] = [Banner(text) for text in grave if text]
    return found + [Banner(text, grave=False) for text in mild if text]


def drawing_frame(circuit: Circuit, view: View | None = None) -> Frame:
    """The interactive drawing, of a height that shows it whole."""
    drawing: Drawing = simplify(
        circuit, view or View(size="screen"), markers=markers_of(circuit)[0] or frozenset()
    )
    height = int(min(MOST, max(LEAST, drawing.height + AROUND)))
    return Frame(circuit_page(drawing, packed=True), height, drawing.title)


def _below(circuit: Circuit) -> list[Block]:
    given = answer_frequency(circuit), *competitor_sentences(circuit.target)
    note = "Frozen attribution: what a gene adds to the score in the frozen model, over all paths"
    note += (
        "." if circuit.scope == "cell" else f"; mean over {circuit.n_cells:,} cells [95%], q that it is 0."
    )
    beside = "" if forbidden(circuit) else validation_note(circuit)
    standing = training_note(circuit), accuracy_note(circuit), beside
    blocks: list[Block] = [" ".join(filter(None, given))] if any(given) else []
    blocks += [" ".join(filter(None, standing))] if any(standing) else []
    blocks.append(Fold(f"Genes: {len(circuit.genes):,}", (genes_part(circuit, note),)))
    blocks.append(Fold("In words", in_words(circuit)))
    return blocks
