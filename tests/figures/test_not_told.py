"""A gene or feature of a consensus that is not told from 0 is grey in every picture, which says so."""

from __future__ import annotations

import pytest

from scx_core.circuits.circuit import Circuit
from scx_core.figures import View, export_bytes, gene_table, simplify
from scx_core.figures.coloured_text import sentence_html
from scx_core.figures.drawing import legend
from scx_core.figures.drawing.colours import BIAS_GREY, COOL, UNTOLD, WARM
from scx_core.figures.formats.network import to_networkx
from tests.figures.fakes import cell_circuit, consensus_circuit

VIEW = View(max_genes=40, max_features=40, max_edges=200)
WORDS = "not told from 0"


def with_q(q: float | None) -> Circuit:
    """A consensus all of whose genes, nodes and edges have this q."""
    base = consensus_circuit()
    rows = {
        name: tuple(row._replace(q=q) for row in getattr(base, name)) for name in ("genes", "nodes", "edges")
    }
    return base._replace(**rows)


def said(circuit: Circuit) -> str:
    drawing = simplify(circuit, VIEW)
    return "; ".join(entry.words for row in legend.entries(drawing) for entry in row)


def test_nothing_told_nothing_warm_or_cool():
    drawing = simplify(with_q(0.6), VIEW)
    for box in drawing.nodes:
        if box.kind in ("gene", "feature"):
            assert (box.fill, box.line) == (UNTOLD, BIAS_GREY)
    assert {link.colour for link in drawing.links} == {BIAS_GREY}
    assert f"gene or feature {WORDS} (q ≥ 0.05)" in said(with_q(0.6))


@pytest.mark.parametrize(
    "circuit", [with_q(0.01), with_q(None), cell_circuit()], ids=["told", "no q", "cell"]
)
def test_what_is_told_or_was_not_tested_keeps_its_colours(circuit):
    drawing = simplify(circuit, VIEW)
    assert UNTOLD not in {box.fill for box in drawing.nodes}
    assert {link.colour for link in drawing.links} <= {WARM, COOL}
    assert WORDS not in said(circuit)


def test_every_file_says_it():
    circuit = with_q(0.6)
    for kind in ("svg", "html", "genes.svg", "graphml"):
        assert WORDS in export_bytes(circuit, kind).decode(), kind
    assert UNTOLD in sentence_html(circuit)
    assert WORDS in sentence_html(circuit)
    assert set(gene_table(circuit).direction) <= {WORDS, "none"}
    graph = to_networkx(circuit)
    assert {at["direction"] for _, at in graph.nodes(data=True) if "direction" in at} == {WORDS}
    assert {at["direction"] for *_, at in graph.edges(data=True)} == {WORDS}
    assert "direction" not in str(to_networkx(with_q(None)).nodes(data=True))


def test_bars_are_grey_and_say_why():
    svg = export_bytes(with_q(0.6), "genes.svg").decode().lower()
    assert f"grey: {WORDS}" in svg
    assert f"fill: {BIAS_GREY.lower()}" in svg
    assert f"fill: {WARM.lower()}" not in svg
    assert WORDS not in export_bytes(with_q(0.01), "genes.svg").decode()
