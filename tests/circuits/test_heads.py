"""Edges split by head, against interventions in a naive model with heads silenced, for every block form; then
as people ask for them: one cell's edges, a circuit's heads."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch

from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits import heads as heads_module
from scx_core.circuits.edge_heads import circuit_edge_heads, circuit_heads, edge_heads, strongest_edges
from scx_core.circuits.heads import Pair, edge_weights, look, split_edges
from scx_core.circuits.ids import Ref, parse_ref
from scx_core.circuits.replacement import replacement
from scx_core.circuits.scene import scene_of_row
from scx_core.circuits.target import plan_target
from scx_core.circuits.trace import Graph, trace_graph
from scx_core.errors import ScxError
from tests.circuits.test_tracer import _table
from tests.identities.autograd import Frozen, Leaves
from tests.identities.test_tracer_laws import random_set
from tests.tiny import LABELS, tiny_cells, tiny_language

MODELS = {
    "parallel": ({"parallel": True}, False),
    "parallel skip": ({"parallel": True}, True),
    "sequential": ({"parallel": False}, False),
    "sequential skip": ({"parallel": False}, True),
    "gpt2 skip": ({"family": "gpt2"}, True),
    "llama": ({"family": "llama"}, False),
    "gemma2 skip": ({"family": "gemma2"}, True),
}


class Traced(NamedTuple):
    """A traced prompt, and the same prompt in the naive model."""

    graph: Graph
    naive: Frozen
    weight_V: torch.Tensor
    parallel: bool


@pytest.fixture(scope="module", params=list(MODELS), ids=list(MODELS))
def traced(request, tmp_path_factory):
    model, skip = MODELS[request.param]
    lm = tiny_language(tmp_path_factory.mktemp("model"), layers=3, dtype="float64", **model)
    coders = random_set(lm, "jumprelu", skip=skip)
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ")
    graph = trace_graph(replacement(lm, coders), tiny_cells(lm)[0], plan, 40)
    naive = Frozen(lm.model, coders.layers, graph.frozen.ids)
    weight_V = torch.zeros_like(naive.logits_V)
    for token, weight in plan.coefficients.items():
        weight_V[token] = weight
    return Traced(graph, naive, weight_V, lm.facts.residual == "parallel")


def some_pairs(graph, n: int = 60) -> list[Pair]:
    """Edges of every kind: features, errors and tokens into features and the target, near and far."""
    chosen, length = graph.chosen, graph.frozen.n_positions
    features = [
        Ref("feature", *place)
        for place in zip(
            chosen.layer_C.tolist(), chosen.position_C.tolist(), chosen.feature_C.tolist(), strict=True
        )
    ]
    errors = [Ref("error", layer, t) for layer in range(3) for t in (0, 4, length - 1)]
    sources = features + errors + [Ref("embedding", position=t) for t in range(0, length, 3)]
    pairs = [
        Pair(source, target)
        for target in (*features, Ref("target"))
        for source in sources
        if source.layer < (target.layer if target.kind == "feature" else 3)
        and source.position <= (target.position if target.kind == "feature" else length - 1)
    ]
    picked = np.random.default_rng(0).choice(len(pairs), n, replace=False)
    near = [pair for pair in pairs if pair.source.position == pair.target.position][:10]
    return [pairs[i] for i in picked] + near + [pair for pair in pairs if pair.target.kind == "target"][:10]


def split_of(graph, pairs):
    weight_E = edge_weights(graph.frozen, pairs, graph.target)
    return split_edges(graph.frozen, pairs, weight_E, graph.target)


def intervened(traced: Traced, pair: Pair) -> float:
    """The edge in the naive model: change of the target when the source is taken away."""
    naive, (source, target) = traced.naive, pair
    whole = naive.leaves
    z, error = [x.clone() for x in whole.z], [x.clone() for x in whole.error]
    embedding = whole.embedding.clone()
    if source.kind == "feature":
        z[source.layer][source.position, source.feature] = 0.0
    elif source.kind == "error":
        error[source.layer][source.position] = 0.0
    else:
        embedding[source.position] = 0.0

    def value(pres, logits_V) -> float:
        if target.kind == "feature":
            return float(pres[target.layer][target.position, target.feature])
        return float(traced.weight_V @ logits_V)

    return value(*naive.run(whole)) - value(*naive.run(Leaves(z, error, embedding)))


def test_parts_add_up_to_the_tables_edge(traced):
    graph = traced.graph
    pairs = some_pairs(graph)
    split = split_of(graph, pairs)
    chosen = graph.chosen
    place = {
        Ref("feature", int(k), int(t), int(i)): c
        for c, (k, t, i) in enumerate(zip(chosen.layer_C, chosen.position_C, chosen.feature_C, strict=True))
    }
    for e, (source, target) in enumerate(pairs):
        row = place.get(target, len(place))
        if source.kind == "feature":
            edge = graph.table.feature_RC[row, place[source]]
        elif source.kind == "error":
            edge = graph.table.error_RLT[row, source.layer, source.position]
        else:
            edge = graph.table.token_RT[row, source.position]
        parts = split.direct_E[e] + split.head_ELH[e].sum() + split.more_E[e]
        assert float(parts) == pytest.approx(float(edge), rel=1e-9, abs=1e-12)


def test_each_part_is_an_intervention_with_the_other_heads_silenced(traced):
    """No head: the direct part. One head alone: its part comes on top. All heads: the whole edge."""
    pairs, naive = some_pairs(traced.graph, 4), traced.naive
    split, patterns = split_of(traced.graph, pairs), naive.patterns
    near = 1e-9 * float(split.weight_E.abs().max())

    def alone(pair: Pair, *place: int) -> float:
        """The edge with every head silenced but one, or with all."""
        naive.patterns = [torch.zeros_like(pattern) for pattern in patterns]
        if place:
            layer, head = place
            naive.patterns[layer][0, head] = patterns[layer][0, head]
        return intervened(traced, pair)

    for e, pair in enumerate(pairs):
        naive.patterns = patterns
        assert intervened(traced, pair) == pytest.approx(float(split.weight_E[e]), abs=near)
        direct = alone(pair)
        assert direct == pytest.approx(float(split.direct_E[e]), abs=near)
        for layer, head in itertools.product(range(3), range(patterns[0].shape[1])):
            part = float(split.head_ELH[e, layer, head])
            assert alone(pair, layer, head) - direct == pytest.approx(part, abs=near)
    naive.patterns = patterns


def test_heads_reach_no_further_than_the_block_form_allows(traced):
    pairs = [pair for pair in some_pairs(traced.graph) if pair.target.kind == "feature"]
    split = split_of(traced.graph, pairs)
    own = torch.tensor([pair.target.layer for pair in pairs])
    of_the_own_block = float(split.head_ELH[torch.arange(len(pairs)), own].abs().max())
    assert (of_the_own_block == 0.0) == traced.parallel
    for e, pair in enumerate(pairs):
        assert float(split.head_ELH[e, : pair.source.layer + 1].abs().sum()) == 0.0


def test_parts_of_the_work_do_not_change_the_result(traced, monkeypatch):
    pairs = some_pairs(traced.graph)
    whole = split_of(traced.graph, pairs)
    monkeypatch.setattr(heads_module, "EDGES", 7)
    monkeypatch.setattr(heads_module, "ROWS", 3)
    for one, other in zip(whole, split_of(traced.graph, pairs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_look_is_the_sorted_pattern(traced):
    frozen = traced.graph.frozen
    pattern_T = frozen.layers[1].pattern_HTT[1, 9, :10]
    seen = look(frozen, 1, 1, 9, source=4, top=3)
    assert seen.weights == tuple(sorted(pattern_T.tolist(), reverse=True)[:3])
    assert [float(pattern_T[s]) for s in seen.positions] == list(seen.weights)
    assert seen.rank == 1 + int((pattern_T > pattern_T[4]).sum())


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), layers=3, dtype="float64")
    return make_tracer(lm, random_set(lm, "jumprelu", skip=False), _table())


@pytest.fixture(scope="module")
def circuit(tracer):
    return tracer.cell(3, label="CD19+ B", cfg=TraceConfig(nodes=60))


def kept_edges(circuit) -> list[tuple[str, str]]:
    return [(edge.source, edge.target) for edge in circuit.edges if edge.source != "bias"]


def test_edges_of_a_named_cell(tracer, circuit):
    edges = kept_edges(circuit)
    found = edge_heads(tracer, 3, edges, label="CD19+ B", heads=3)
    weights = {(edge.source, edge.target): edge.weight for edge in circuit.edges}
    for edge, split in zip(edges, found, strict=True):
        assert (split.source, split.target) == edge
        assert split.weight == pytest.approx(weights[edge], rel=1e-6, abs=1e-9)
        assert split.direct + split.one_head + split.more == pytest.approx(split.weight, rel=1e-9)
        sizes = [abs(part.contribution) for part in split.heads]
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
    for one, other in zip(again, edge_heads(tracer, 3, edges, label="CD19+ B"), strict=True):
        assert one.one_head == pytest.approx(other.one_head, rel=1e-6, abs=1e-9)
        assert [part[:2] for part in one.heads] == [part[:2] for part in other.heads]


def test_the_strongest_edges_are_those_that_heads_carried(tracer, circuit):
    edges, nodes = strongest_edges(circuit, 10_000), {node.id: node for node in circuit.nodes}
    apart = {(a, b) for a, b in kept_edges(circuit) if nodes[a].position != nodes[b].position}
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
        edge_heads(tracer, 3, [edge], label="CD19+ B")


def test_a_source_behind_or_above_its_target_is_refused(tracer, circuit):
    node = next(node for node in circuit.nodes if node.kind == "feature" and node.layer == 1)
    for source in (f"e:1:{node.position}", f"t:{node.position + 1}"):
        with pytest.raises(ScxError, match="cannot act"):
            edge_heads(tracer, 3, [(source, node.id)], label="CD19+ B")


def test_circuits_without_positions_or_from_elsewhere_are_refused(tracer, circuit):
    with pytest.raises(ScxError, match="many cells"):
        circuit_heads(tracer, circuit._replace(scope="consensus"))
    with pytest.raises(ScxError, match="another model"):
        circuit_heads(tracer, circuit._replace(token_ids=(10**6,)))
    with pytest.raises(ScxError, match="no cell 99"):
        edge_heads(tracer, 99, [])


def test_ids_are_those_of_the_json(tracer, circuit):
    frozen = scene_of_row(tracer, 3, "CD19+ B").frozen
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
    other = edge_heads(tracer, 3, [(source, node.id) for source, _ in into], label="CD19+ B")
    for a, b in zip(one, other, strict=True):
        assert a.weight == pytest.approx(b.weight, rel=1e-6, abs=1e-9)
        assert a.one_head == pytest.approx(b.one_head, rel=1e-6, abs=1e-9)
        assert [part[:2] for part in a.heads] == [part[:2] for part in b.heads]
    assert circuit_heads(tracer, own).n_edges == len(edges)
