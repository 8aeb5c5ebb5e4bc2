"""Heads as people ask for them: the edges of one cell, what the heads carry of its circuit, mistakes."""

from __future__ import annotations

import pytest

from scx_core.attribution.endpoints import parse_ref
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits.head_tables import circuit_edge_heads, circuit_heads, edge_heads, strongest_edges
from scx_core.circuits.traced_prompt import prompt_of_row
from scx_core.errors import ScxError
from tests.tiny import random_set, renamed_table, tiny_language


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), layers=3, dtype="float64")
    return make_tracer(lm, random_set(lm, "jumprelu", skip=False), renamed_table())


@pytest.fixture(scope="module")
def circuit(tracer):
    return tracer.cell(3, label="CD19+ B", cfg=TraceConfig(nodes=60))


def kept_edges(circuit) -> list[tuple[str, str]]:
    return [(edge.source, edge.target) for edge in circuit.edges if edge.source != "bias"]


def test_edges_of_a_named_cell(tracer, circuit):
    edges = kept_edges(circuit)
    found = edge_heads(prompt_of_row(tracer, 3, "CD19+ B"), edges, heads=3)
    weights = {(edge.source, edge.target): edge.weight for edge in circuit.edges}
    for edge, split in zip(edges, found, strict=True):
        assert (split.source, split.target) == edge
        assert split.weight == pytest.approx(weights[edge], rel=1e-6, abs=1e-9)
        assert split.direct + split.one_head + split.more == pytest.approx(split.weight, rel=1e-9)
        sizes = [abs(part.last) for part in split.heads]
        assert sizes == sorted(sizes, reverse=True) and len(sizes) <= 3
        for part in split.heads:
            assert part.contribution == pytest.approx(part.attention * part.ov)
            assert part.looks[0].weight == max(looked.weight for looked in part.looks)
            assert all(circuit.tokens[looked.position] == looked.token for looked in part.looks)
        assert split.to_json()["heads"] == [] or "looks" in split.to_json()["heads"][0]
        assert len(split.frame()) == len(split.heads)
    genes = {looked.gene for split in found for part in split.heads for looked in part.looks} - {None}
    assert genes and genes <= set(circuit.sentence)


def test_edges_of_a_circuit_need_no_row(tracer, circuit):
    edges = kept_edges(circuit)[:5]
    again = circuit_edge_heads(tracer, circuit, edges)
    for one, other in zip(again, edge_heads(prompt_of_row(tracer, 3, "CD19+ B"), edges), strict=True):
        assert one.one_head == pytest.approx(other.one_head, rel=1e-6, abs=1e-9)
        assert [part[:2] for part in one.heads] == [part[:2] for part in other.heads]


def test_the_strongest_edges_are_those_that_heads_carried(tracer, circuit):
    edges, nodes = strongest_edges(circuit, 10_000), {node.id: node for node in circuit.nodes}
    reads = {"target": {branch.position for branch in circuit.target.branches}}
    apart = {
        (a, b) for a, b in kept_edges(circuit) if nodes[a].position not in reads.get(b, {nodes[b].position})
    }
    assert edges and set(edges) == apart
    sizes = []
    for split in circuit_edge_heads(tracer, circuit, edges):
        target = nodes[split.target]
        slope = 1.0 if target.kind == "target" else target.effect / target.activation
        sizes.append(abs(split.weight * slope))
        assert split.direct == 0.0
    assert sizes == pytest.approx(sorted(sizes, reverse=True), rel=1e-6)
    assert strongest_edges(circuit, 3) == edges[:3]


def test_heads_of_a_circuit_are_the_sums_over_its_edges(tracer, circuit):
    found = circuit_heads(tracer, circuit)
    edges = kept_edges(circuit)
    assert found.n_edges == len(edges)
    slope = {
        node.id: 1.0 if node.kind == "target" else node.effect / node.activation
        for node in circuit.nodes
        if node.kind in ("feature", "target")
    }
    sums: dict[tuple[int, int], float] = {}
    for split in circuit_edge_heads(tracer, circuit, edges, heads=99):
        for part in split.heads:
            key = (part.layer, part.head)
            sums[key] = sums.get(key, 0.0) + part.contribution * slope[split.target]
    for layer, head, through, size, share in found.heads:
        assert through == pytest.approx(sums.get((layer, head), 0.0), rel=1e-6, abs=1e-9)
        assert abs(through) <= size * (1 + 1e-9) and share == pytest.approx(size / found.whole)
    assert list(found.frame().columns) == ["layer", "head", "through", "size", "share"]
    assert len(found.to_json()["heads"]) == len(found.heads)


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        (("bias", "target"), "bias"),
        (("f:1:2", "target"), "f:1:2"),
        (("f:1:x:2", "target"), "not the id"),
        (("t:9999", "target"), "outside the prompt"),
        (("e:9:0", "target"), "outside the prompt"),
        (("target", "target"), "no edge"),
        (("t:0", "t:1"), "no edge"),
        (("e:2:0", "e:2:1"), "no edge"),
        (("f:0:0:100000", "target"), "not active"),
    ],
)
def test_mistakes_are_named(tracer, edge, words):
    with pytest.raises(ScxError, match=words):
        edge_heads(prompt_of_row(tracer, 3, "CD19+ B"), [edge])


def test_a_source_behind_or_above_its_target_is_refused(tracer, circuit):
    node = next(node for node in circuit.nodes if node.kind == "feature" and node.layer == 1)
    for source in (f"e:1:{node.position}", f"t:{node.position + 1}"):
        with pytest.raises(ScxError, match="cannot act"):
            edge_heads(prompt_of_row(tracer, 3, "CD19+ B"), [(source, node.id)])


def test_circuits_without_positions_or_from_elsewhere_are_refused(tracer, circuit):
    with pytest.raises(ScxError, match="many cells"):
        circuit_heads(tracer, circuit._replace(scope="consensus"))
    with pytest.raises(ScxError, match="another model"):
        circuit_heads(tracer, circuit._replace(token_ids=(10**6,)))
    with pytest.raises(ScxError, match="no cell 99"):
        edge_heads(prompt_of_row(tracer, 99), [])


def test_ids_are_those_of_the_json(tracer, circuit):
    frozen = prompt_of_row(tracer, 3, "CD19+ B").frozen
    for node in circuit.nodes:
        if node.kind != "bias":
            assert parse_ref(node.id, frozen).id == node.id


def test_a_feature_may_be_the_trace_itself(tracer, circuit):
    """The target of a feature's circuit is that feature: the same edges, the same heads."""
    length = len(tracer.encode([3])[0].ids)  # without the answer's first tokens, which a feature needs not
    node = next(node for node in circuit.nodes if node.layer == 1 and 4 < node.position < length)
    own = tracer.feature(3, node.layer, node.feature, node.position, TraceConfig(nodes=30))
    edges = kept_edges(own)
    into = [edge for edge in edges if edge[1] == "target"][:6]
    one = circuit_edge_heads(tracer, own, into)
    other = edge_heads(prompt_of_row(tracer, 3, "CD19+ B"), [(source, node.id) for source, _ in into])
    for a, b in zip(one, other, strict=True):
        assert a.weight == pytest.approx(b.weight, rel=1e-6, abs=1e-9)
        assert a.one_head == pytest.approx(b.one_head, rel=1e-6, abs=1e-9)
        assert [part[:2] for part in a.heads] == [part[:2] for part in b.heads]
    assert circuit_heads(tracer, own).n_edges == len(edges)
