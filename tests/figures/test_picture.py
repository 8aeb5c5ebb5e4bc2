"""Figures for print: size, text as text, embedded fonts, the same bytes each time."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from scx_core.errors import ScxError
from scx_core.figures import View, circuit_picture, genes_picture, simplify
from scx_core.figures.bars import genes_figure, interval
from scx_core.figures.drawing.pen import picture_bytes
from tests.figures.fakes import B_CELL, cell_circuit, consensus_circuit, hostile_circuit

MARKERS = frozenset(B_CELL)
MAKERS = {
    "circuit": lambda c, f: circuit_picture(simplify(c, View(size="column"), markers=MARKERS), f),
    "genes": lambda c, f: genes_picture(c, f, markers=MARKERS),
}


def _texts(svg: bytes) -> str:
    root = ET.fromstring(svg)
    return "\n".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_same_circuit_gives_the_same_bytes(make, file_format):
    assert make(consensus_circuit(), file_format) == make(consensus_circuit(), file_format)


@pytest.mark.parametrize(("size", "millimetres"), [("wide", 180), ("column", 85)])
def test_png_is_a_column_wide_at_300_dpi(size, millimetres):
    picture = Image.open(io.BytesIO(circuit_picture(simplify(cell_circuit(), View(size=size)), "png")))
    assert picture.width == pytest.approx(millimetres / 25.4 * 300, abs=3)
    assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert "scX 0.1.0" in picture.info["Description"]


def test_svg_holds_the_words_of_the_drawing_as_text():
    drawing = simplify(cell_circuit(), View(), markers=MARKERS)
    texts = _texts(circuit_picture(drawing, "svg"))
    for box in drawing.nodes:
        assert box.kind in ("error", "bias") or box.label in texts
    assert drawing.provenance in texts
    assert "reconstruction error" in texts
    assert "known marker" in texts


def test_pdf_embeds_truetype_and_carries_no_date():
    pdf = circuit_picture(simplify(cell_circuit(), View()), "pdf")
    assert b"CreationDate" not in pdf
    assert re.search(rb"/FontFile2|/CIDFontType2", pdf)


def test_hostile_names_stay_text_in_every_picture():
    circuit = hostile_circuit()
    drawing = simplify(circuit, View())
    svg = circuit_picture(drawing, "svg")
    names = {node.tag.rsplit("}", 1)[-1] for node in ET.fromstring(svg).iter()}
    assert not names & {"script", "img", "image", "foreignObject"}
    assert "<img src=x oner…"[:12] in _texts(svg)
    assert "$x^2$ $" in _texts(genes_picture(circuit, "svg"))
    for make in (lambda kind: circuit_picture(drawing, kind), lambda kind: genes_picture(circuit, kind)):
        with Image.open(io.BytesIO(make("png"))) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10, "it is drawn, not blank"
        assert re.search(rb"/Count 1\b", make("pdf")) and b"/JavaScript" not in make("pdf")


def test_gene_chart_shows_the_strongest_of_each_sign():
    circuit = consensus_circuit()
    texts = _texts(genes_picture(circuit, "svg", n=4)).split("\n")
    positive = sorted((row for row in circuit.genes if row.effect > 0), key=lambda row: -row.effect)
    negative = sorted((row for row in circuit.genes if row.effect < 0), key=lambda row: row.effect)
    shown = [text for text in texts if text in {row.gene for row in circuit.genes}]
    assert shown == [row.gene for row in (*positive[:4], *negative[:4])]


def test_intervals_come_from_the_bootstrap_else_from_the_deviation():
    row = consensus_circuit().genes[0]
    assert interval(row) == (row.low, row.high)
    assert interval(row._replace(low=None, sd=0.5)) == (row.effect - 0.5, row.effect + 0.5)
    assert interval(row._replace(low=None, sd=0.0)) is None


def test_another_format_is_a_users_error():
    with pytest.raises(ScxError, match="tiff"):
        picture_bytes(genes_figure(cell_circuit()), "tiff")
