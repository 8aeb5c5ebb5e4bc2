"""The consensus: means over all cells, shares, and the JSON round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits.circuit import Circuit, Edge, GeneEffect, Node, Target
from scx_core.circuits.consensus import Merged, combine, consensus_genes, merge, merged_node
from scx_core.circuits.feature_names import ANSWER_POSITION, ByPlace
from scx_core.statistics.resampling import one_group

TARGET = Target("B against others", "B", 9, {5: 1.0, 6: -1.0}, ("NK",), ("x",), 2.0)


def combine_circuits(circuits, min_share: float, seed: int, provenance: dict) -> Circuit:
    """The consensus of single-cell circuits."""
    return combine([merged_circuit(one) for one in circuits], circuits[0].target, min_share, seed, provenance)


def merged_circuit(circuit: Circuit) -> Merged:
    """A single-cell circuit with its positions merged."""
    index = {node.id: i for i, node in enumerate(circuit.nodes)}
    edges = (
        np.array([index[edge.target] for edge in circuit.edges], dtype=np.int64),
        np.array([index[edge.source] for edge in circuit.edges], dtype=np.int64),
        np.array([edge.weight for edge in circuit.edges]),
    )
    features = [node for node in circuit.nodes if node.kind == "feature"]
    stands = _by_place(features, [(_place(node), node.activation or 0.0) for node in features])
    return merge(
        circuit.nodes,
        edges,
        active=stands,
        stands=stands,
        added=_by_place(features, [(node.driven_by or "", abs(node.activation or 0.0)) for node in features]),
        genes={gene.gene: (gene.effect, gene.rank) for gene in circuit.genes},
        value=circuit.target.value,
        scores=circuit.scores,
        max_relative_error=circuit.accounting["max_relative_error"],
        rival_shares=circuit.target.rival_shares,
    )


def _place(node: Node) -> str | None:
    """The gene that a feature stands at; "" for the prompt's words, None for the answer's place."""
    if node.gene is not None:
        return node.gene
    return None if (node.active_at or "").startswith(ANSWER_POSITION) else ""


def _by_place(features: list[Node], held: list[tuple[str | None, float]]) -> ByPlace:
    """What the nodes of a file hold: one place each. Traced here, a feature's whole prompt is known."""
    rows = list(dict.fromkeys(merged_node(node).id for node in features))
    genes = sorted({place for place, _ in held if place})
    sum_RP = np.zeros((len(rows), len(genes) + 2))
    for node, (place, amount) in zip(features, held, strict=True):
        column = len(genes) + 1 if place is None else genes.index(place) if place else len(genes)
        sum_RP[rows.index(merged_node(node).id), column] += amount
    return ByPlace(tuple(rows), tuple(genes), sum_RP)


def cell(feature_effect: float, *, gene: str = "CD79A", second: bool = False) -> Circuit:
    nodes = [
        Node("f:1:4:7", "feature", 1, 4, 7, gene, "a", 3.0, 0.5, feature_effect),
        Node("t:4", "embedding", None, 4, None, gene, "a", None, 0.2, 0.1),
        Node("t:0", "embedding", None, 0, None, None, "Homo", None, 0.1, 0.1),
        Node("bias", "bias"),
        Node("target", "target", position=9, activation=2.0, influence=1.0, effect=2.0),
    ]
    edges = [
        Edge("f:1:4:7", "target", 1.5),
        Edge("t:4", "f:1:4:7", 0.5),
        Edge("t:0", "f:1:4:7", 0.25),
        Edge("bias", "target", 0.1),
    ]
    if second:  # the same feature at another position
        nodes.insert(1, Node("f:1:6:7", "feature", 1, 6, 7, "MS4A1", "b", 1.0, 0.1, 1.0))
        edges.append(Edge("f:1:6:7", "target", 0.5))
    genes = (GeneEffect(gene, feature_effect, 3), GeneEffect("B2M", -0.1, 1))
    scores = {"value": 2.0, "called": 1.0}
    return Circuit(
        "cell", TARGET, genes, tuple(nodes), tuple(edges), scores, {"max_relative_error": 1e-6}, {}
    )


def test_positions_are_summed_and_means_run_over_all_cells():
    found = combine_circuits([cell(1.0, second=True), cell(3.0), cell(2.0, gene="CD74")], 0.3, 0, {"a": 1})
    feature = found.node("f:1:7")
    assert feature.effect == pytest.approx((2.0 + 3.0 + 2.0) / 3)
    assert feature.activation == pytest.approx((4 + 3 + 3) / 3)
    assert (feature.n_cells, feature.share, feature.gene) == (3, 1.0, "CD79A")
    weights = {(e.source, e.target): e for e in found.edges}
    assert weights["f:1:7", "target"].weight == pytest.approx((2.0 + 1.5 + 1.5) / 3)
    assert weights["gene:CD74", "f:1:7"].weight == pytest.approx(0.5 / 3)
    assert weights["gene:CD74", "f:1:7"].share == pytest.approx(1 / 3)
    assert weights["prompt", "f:1:7"].weight == pytest.approx(0.25)
    assert found.token_ids == ()
    assert all(node.position is None for node in found.nodes)
    assert found.target.position is None


def test_rare_nodes_are_left_out():
    found = combine_circuits([cell(1.0), cell(1.0), cell(1.0), cell(1.0, gene="CD74")], 0.5, 0, {})
    assert "gene:CD74" not in {node.id for node in found.nodes}
    ids = {node.id for node in found.nodes}
    assert all(edge.source in ids and edge.target in ids for edge in found.edges)


def test_gene_statistics_against_numpy():
    cells = [{"A": (1.0, 1), "B": (0.5, 2)}, {"A": (2.0, 3)}, {"A": (4.0, 2), "C": (-1.0, 1)}]
    rows = {row.gene: row for row in consensus_genes(cells, one_group(3, 1))}
    assert rows["A"].effect == pytest.approx(7 / 3)
    assert rows["A"].sd == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert rows["B"].effect == pytest.approx(0.5 / 3), "absent counts as 0"
    assert (rows["B"].n_cells, rows["B"].share, rows["B"].rank) == (1, pytest.approx(1 / 3), 2.0)
    assert rows["A"].low <= rows["A"].effect <= rows["A"].high
    assert [row.gene for row in consensus_genes(cells, one_group(3, 1))] == ["A", "B", "C"]
    assert consensus_genes(cells, one_group(3, 1)) == consensus_genes(cells, one_group(3, 1))


def test_json_round_trip():
    for circuit in (cell(1.0), combine_circuits([cell(1.0), cell(2.0)], 0.3, 0, {"seed": 0})):
        text = json.dumps(circuit.to_json(), allow_nan=False)
        assert Circuit.from_json(json.loads(text)) == circuit
