"""A difference names both sides, and only what was tested and found is called one."""

from __future__ import annotations

import csv
import io
import json

import pytest

from scx_core.circuits.circuit import Circuit
from scx_core.figures import View, export_bytes, file_name, gene_table, simplify
from scx_core.figures.bars import _by_sign
from scx_core.figures.captions import caption, direction, title
from scx_core.figures.drawing.colours import BIAS_GREY, COOL, WARM
from scx_core.figures.formats.network import to_networkx
from tests.figures.fakes import consensus_circuit

NAMES = ["CD19+ B", "<b>Dendritic"]


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    """A difference of which every second gene, node and edge was found."""
    base = consensus_circuit()
    found = {True: {"p": 0.001, "q": 0.01}, False: {"p": 0.3, "q": 0.6}}
    target = base.target._replace(answer=NAMES[0])
    return base._replace(
        scope="difference",
        target=target,
        provenance=base.provenance | {"compared": NAMES},
        **{
            name: tuple(row._replace(**found[i % 2 == 0]) for i, row in enumerate(getattr(base, name)))
            for name in ("genes", "nodes", "edges")
        },
    )


def test_the_table_says_higher_where(circuit):
    for row in gene_table(circuit).itertuples():
        side = NAMES[0] if row.frozen_attribution > 0 else NAMES[1]
        assert row.direction == (f"effect higher in {side}" if row.q < 0.05 else "no difference found")


def test_words_without_tests_and_of_one_type(circuit):
    assert direction(circuit, -1.0, None) == "effect higher in <b>Dendritic (not tested)"
    consensus = circuit._replace(scope="consensus")
    assert [direction(consensus, x, q) for x, q in ((1.0, None), (-1.0, 0.01), (1.0, 0.2))] == [
        "raises",
        "lowers",
        "not told from 0",
    ]


def test_title_file_name_and_caption_name_both_sides(circuit):
    assert title(circuit) == "CD19+ B less <b>Dendritic"
    assert file_name(circuit, "png") == "CD19+_B_less_b_Dendritic_difference_30_cells.png"
    assert "the mean in CD19+ B less that in <b>Dendritic" in caption(circuit)


def test_what_is_not_called_different_is_grey(circuit):
    drawing = simplify(circuit, View(max_genes=40, max_features=40, max_edges=200))
    q = {(edge.source, edge.target): edge.q for edge in circuit.edges}
    sides = ("effect higher in CD19+ B", "effect higher in <b>Dendritic")
    assert drawing.signs == (*sides, "no difference found")
    colours = {link.colour for link in drawing.links}
    assert colours == {WARM, COOL, BIAS_GREY}
    grey = sum(link.colour == BIAS_GREY for link in drawing.links)
    hovers = [line for link in drawing.links for line in link.hover if line.startswith("no difference found")]
    assert grey == len(hovers)
    assert q


def test_bars_stand_only_where_a_difference_was_found(circuit):
    groups = dict(_by_sign(circuit, 50))
    assert list(groups) == ["Effect higher in CD19+ B", "Effect higher in <b>Dendritic"]
    shown = {row.gene for rows in groups.values() for row in rows}
    assert shown == {row.gene for row in circuit.genes if row.q < 0.05 and row.effect}
    nothing = circuit._replace(genes=tuple(row._replace(q=0.9) for row in circuit.genes))
    for one in (circuit, nothing):
        assert export_bytes(one, "genes.svg").startswith(b"<?xml")


def test_q_is_in_every_export(circuit):
    rows = list(csv.DictReader(io.StringIO(export_bytes(circuit, "csv").decode("utf-8-sig"))))
    assert {row["q"] for row in rows} == {"0.01", "0.6"}
    data = json.loads(export_bytes(circuit, "json"))
    for name in ("genes", "nodes", "edges"):
        assert {row["q"] for row in data[name]} == {0.01, 0.6}
    assert Circuit.from_json(data) == circuit
    graph = to_networkx(circuit)
    assert {at["q"] for *_, at in graph.edges(data=True)} == {0.01, 0.6}
    assert {at["q"] for _, at in graph.nodes(data=True)} == {0.01, 0.6}
    text = export_bytes(circuit, "graphml").decode()
    assert 'attr.name="q"' in text
    page = export_bytes(circuit, "html").decode()
    assert "effect higher in &lt;b&gt;Dendritic" in page
    assert "<b>Dendritic" not in page
    graph = json.loads(export_bytes(circuit, "neuronpedia"))
    tests = graph["metadata"]["scx"]["tests"]
    assert [one["q"] for one in tests["links"]] == [edge.q for edge in circuit.edges]
    assert {one["q"] for one in tests["nodes"].values()} == {0.01, 0.6}
    assert set(tests["nodes"]) <= {node["node_id"] for node in graph["nodes"]}
