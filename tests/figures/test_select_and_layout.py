"""What is drawn and where: merged tokens, kept sums, no dead ends, boxes that never overlap."""

from itertools import combinations

import pytest

from scx_core.circuits.circuit import Circuit, Edge
from scx_core.errors import ScxError
from scx_core.figures import View, simplify
from scx_core.figures.drawing.select import merge_edges, merge_nodes, select
from scx_core.figures.drawing.text import text_width
from tests.figures.fakes import B_CELL, cell_circuit, consensus_circuit

MARKERS = frozenset(B_CELL)
CIRCUITS = {"cell": cell_circuit(), "consensus": consensus_circuit(), "deep": cell_circuit(5, n_layers=24)}
VIEWS = [
    View(),
    View(size="column"),
    View(max_genes=80, max_features=70, max_edges=400, show_errors=True, show_bias=True, colour_by="share"),
]


def test_merging_keeps_every_sum():
    circuit = CIRCUITS["cell"]
    groups, owner = merge_nodes(circuit.nodes)
    flows = merge_edges(circuit, groups, owner)
    assert sum(f.weight for f in flows) == pytest.approx(sum(e.weight for e in circuit.edges))
    assert sum(g.influence for g in groups.values()) == pytest.approx(sum(n.influence for n in circuit.nodes))
    tokens = [n for n in circuit.nodes if n.kind == "embedding" and n.gene == "CD79A"]
    assert len(tokens) > 1
    assert groups["gene CD79A"].members == tuple(tokens)
    into_target = sum(
        f.input_share for f in flows if groups[f.target].kind == "target" and f.source != "bias"
    )
    assert into_target == pytest.approx(1.0)


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("view", VIEWS)
def test_every_box_leads_to_the_answer_and_counts_add_up(name, view):
    circuit = CIRCUITS[name]
    chosen = select(circuit, view)
    sources = {flow.source for flow in chosen.flows}
    assert all(key in sources for key, group in chosen.groups.items() if group.kind != "target")
    fed = {flow.target for flow in chosen.flows}
    features = [key for key, group in chosen.groups.items() if group.kind == "feature"]
    assert len(features) <= view.limits[1]
    assert set(features) <= fed
    genes = [group.gene for group in chosen.groups.values() if group.kind == "gene"]
    assert len(genes) + chosen.hidden_genes == len(circuit.genes)
    kinds = {group.kind for group in chosen.groups.values()}
    assert ("error" in kinds) <= view.show_errors
    assert ("bias" in kinds) <= view.show_bias


def test_genes_with_the_largest_effect_are_the_ones_that_stay():
    circuit = CIRCUITS["cell"]
    shown = {
        group.gene for group in select(circuit, View(max_genes=5)).groups.values() if group.kind == "gene"
    }
    strongest = [row.gene for row in circuit.genes]  # the fake sorts them by absolute effect
    assert shown <= set(strongest[:5])
    assert len(shown) >= 4


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("view", VIEWS)
def test_boxes_lie_on_the_page_apart_and_in_their_rows(name, view):
    circuit = CIRCUITS[name]
    drawing = simplify(circuit, view, markers=MARKERS)
    for a, b in combinations(drawing.nodes, 2):
        apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-6
        apart_y = abs(a.y - b.y) >= (a.height + b.height) / 2 - 1e-6
        assert apart_x or apart_y, (a.label, b.label)
    for box in drawing.nodes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= drawing.width
        assert box.y - box.height / 2 >= 0
        assert box.y + box.height / 2 <= drawing.height
    names = max(14.0 + text_width(row.label, 11.0) for row in drawing.rows)
    assert all(
        box.x - box.width / 2 >= names for box in drawing.nodes if box.kind not in ("target", "against")
    )
    height = {box.id: box.y for box in drawing.nodes}
    assert all(height[link.source] > height[link.target] for link in drawing.links)
    ranks = {row.gene: row.rank for row in circuit.genes}
    genes = [box for box in drawing.nodes if box.kind == "gene"]
    for y in {box.y for box in genes}:
        row = sorted((box.x, ranks[box.label]) for box in genes if box.y == y)
        assert [rank for _, rank in row] == sorted(rank for _, rank in row)


def test_the_same_circuit_is_drawn_the_same_way_also_after_a_round_trip():
    circuit = CIRCUITS["cell"]
    again = Circuit.from_json(circuit.to_json())
    assert simplify(again, View(), markers=MARKERS) == simplify(circuit, View(), markers=MARKERS)


def test_words_colours_and_badges():
    drawing = simplify(CIRCUITS["consensus"], View(), markers=MARKERS, labels={"L0·37": "HLA class II"})
    kinds = {box.kind for box in drawing.nodes}
    assert {"target", "against", "gene", "feature", "more"} <= kinds
    assert drawing.notes[0] == "12% of the influence starts at reconstruction errors (not drawn)"
    assert "HLA class II" in {box.label for box in drawing.nodes}
    assert all(box.marker == (box.label in MARKERS) for box in drawing.nodes if box.kind == "gene")
    assert {link.colour for link in drawing.links if link.weight > 0}.isdisjoint(
        link.colour for link in drawing.links if link.weight < 0
    )
    widths = [link.width for link in sorted(drawing.links, key=lambda link: link.strength)]
    assert widths == sorted(widths)
    assert "pbmc68k_reduced@9f2c41aa" in drawing.provenance
    assert "30 cells" in drawing.caption


@pytest.mark.parametrize(
    ("circuit", "called", "note"),
    [
        (CIRCUITS["consensus"], 0.8, "the model gives this answer for 24 of the 30 cells (63% to 90%)"),
        (CIRCUITS["cell"], 0.0, "the model does not give this answer for this cell"),
        (CIRCUITS["cell"], 1.0, "12% of the influence starts at reconstruction errors (not drawn)"),
    ],
)
def test_an_answer_that_the_model_does_not_give_is_said_first(circuit, called, note):
    drawing = simplify(circuit._replace(scores=circuit.scores | {"called": called}))
    assert drawing.notes[0] == note


def test_an_edge_to_nowhere_is_a_users_error():
    circuit = cell_circuit()._replace(edges=(Edge("nobody", "target", 1.0),))
    with pytest.raises(ScxError, match="nobody"):
        simplify(circuit)


def test_a_circuit_without_edges_still_shows_its_answer():
    drawing = simplify(cell_circuit()._replace(edges=()))
    assert [box.kind for box in drawing.nodes][:1] == ["target"]
    assert drawing.links == ()


def test_a_view_checks_its_limits():
    with pytest.raises(ScxError, match="max_genes"):
        View(max_genes=-1)
    with pytest.raises(ScxError, match="min_edge_share"):
        View(min_edge_share=2.0)
