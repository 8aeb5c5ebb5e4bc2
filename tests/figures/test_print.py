"""What leaves the page: words large enough to be read, one sign a letter, and what a person did to the
picture."""

from __future__ import annotations

import json
import re
import zlib
from xml.etree import ElementTree

import pytest
from matplotlib.text import Text

from scx_core.circuits import Circuit
from scx_core.figures import View, circuit_figure, export_bytes, simplify
from scx_core.figures.drawing.edits import Edits
from scx_core.figures.drawing.select import merge_nodes
from scx_core.figures.explain import explain
from scx_core.figures.formats.export import FORMATS
from tests.figures.fakes import consensus_circuit

LONG = "A very ffi long name " * 500


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return consensus_circuit()


def features(circuit: Circuit) -> list[str]:
    """The boxes of features that are drawn."""
    return [box.id for box in simplify(circuit).nodes if box.kind == "feature"]


@pytest.mark.parametrize("size", ["wide", "column"])
def test_no_word_is_smaller_than_five_points(circuit: Circuit, size: str) -> None:
    figure = circuit_figure(simplify(circuit, View(size=size)))
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert len(sizes) > 20 and min(sizes) >= 5.0 - 1e-9


def test_the_figure_and_its_caption_file_say_the_five_sentences(circuit: Circuit) -> None:
    figure = circuit_figure(simplify(circuit, View(size="column")))
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    text = export_bytes(circuit, "caption").decode()
    page = export_bytes(circuit, "html").decode()
    for sentence in explain(circuit):
        assert sentence in words and sentence in text
    assert page.count("<li>") == 5


def test_letters_stay_letters_in_a_pdf() -> None:
    """A font's ligature is one sign for two letters, which is copied as a sign that nobody types."""
    named = consensus_circuit()
    named = named._replace(target=named.target._replace(answer="office efficient"))
    data = export_bytes(named, "pdf")
    streams = [zlib.decompress(part) for part in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S)
               if part[:1] == b"\x78"]  # fmt: skip
    maps = [part for part in streams if b"begincmap" in part]
    assert maps and not any(re.search(rb"(?i)<0066006[69]|<fb0[0-4]>", part) for part in maps)


def test_what_was_done_to_the_picture_is_in_every_file(circuit: Circuit) -> None:
    first, second, *_ = features(circuit)
    groups, _ = merge_nodes(circuit.nodes)
    edits = Edits().hide([first]).rename(second, "MY OWN NAME")
    hidden = {node.id for node in groups[first].members}
    for name in ("svg", "html", "graphml", "neuronpedia", "json"):
        assert "MY OWN NAME" in export_bytes(circuit, name, edits=edits).decode(), name
    graph = export_bytes(circuit, "graphml", edits=edits).decode()
    ElementTree.fromstring(graph)
    assert not any(f">{node}<" in graph for node in hidden) and "drawn_name" in graph
    record = json.loads(export_bytes(circuit, "json", edits=edits))
    assert record["provenance"]["picture"]["hidden"] == [first]
    assert hidden <= {node["id"] for node in record["nodes"]}, "its sums still hold"
    again = Circuit.from_json(record, "a file")
    assert len(again.nodes) == len(circuit.nodes)


def test_a_name_of_ten_thousand_characters_fails_nothing() -> None:
    made = consensus_circuit()
    gene = made.genes[0].gene
    made = made._replace(
        target=made.target._replace(answer=LONG, label=LONG),
        genes=tuple(row._replace(gene=LONG) if row.gene == gene else row for row in made.genes),
        nodes=tuple(
            node._replace(gene=LONG if node.gene == gene else node.gene, name=LONG) for node in made.nodes
        ),
    )
    for name in FORMATS:
        assert export_bytes(made, name, view=View(size="column"))
