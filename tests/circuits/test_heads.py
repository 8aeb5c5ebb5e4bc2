"""Edges split by head, against interventions in the naive model: both residual forms, with and without skip
terms; then as people ask for them: one cell's edges, a circuit's heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.circuits import TraceConfig, make_tracer
from scx_core.circuits import heads as heads_module
from scx_core.circuits.edge_heads import circuit_edge_heads, circuit_heads, edge_heads
from scx_core.circuits.heads import Pair, edge_weights, look, split_edges
from scx_core.circuits.ids import Ref, parse_ref
from scx_core.errors import ScxError
from tests.circuits.test_tracer import _table
from tests.identities.plain import Plain
from tests.identities.test_tracer_laws import make, random_set
from tests.tiny import tiny_language

FORMS = [(parallel, skip) for parallel in (True, False) for skip in (False, True)]


@pytest.fixture(
    scope="module", params=FORMS, ids=["parallel", "parallel skip", "sequential", "sequential skip"]
)
def traced(request, tmp_path_factory):
    parallel, skip = request.param
    folder = tmp_path_factory.mktemp("model")
    return make(folder, parallel=parallel, kind="jumprelu", skip=skip, dtype="float64")


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


def intervened(plain: Plain, pair: Pair, plan) -> float:
    """The edge in the naive model: change of the target when the source is taken away."""
    z, error, embedding_Td = [x.clone() for x in plain.z], [x.clone() for x in plain.error], None
    source, target = pair
    if source.kind == "feature":
        z[source.layer][source.position, source.feature] = 0.0
    elif source.kind == "error":
        error[source.layer][source.position] = 0.0
    else:
        embedding_Td = plain.embedding_Td.clone()
        embedding_Td[source.position] = 0.0

    def value(pres, logits) -> float:
        if target.kind == "feature":
            return float(pres[target.layer][target.position, target.feature])
        return sum(weight * float(logits[-1, token]) for token, weight in plan.coefficients.items())

    return value(*plain.run()) - value(*plain.run(z=z, error=error, embedding_Td=embedding_Td))


def test_parts_add_up_to_the_tables_edge(traced):
    *_, graph = traced
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
    lm, coders, _cell, plan, graph = traced
    pairs = some_pairs(graph, 6)
    split, plain = split_of(graph, pairs), Plain(lm, coders, graph.frozen.ids)
    patterns = plain.patterns
    largest = float(split.weight_E.abs().max())
    for e, pair in enumerate(pairs):
        plain.patterns = patterns
        assert intervened(plain, pair, plan) == pytest.approx(float(split.weight_E[e]), abs=1e-9 * largest)
        plain.patterns = [torch.zeros_like(pattern) for pattern in patterns]
        direct = intervened(plain, pair, plan)
        assert direct == pytest.approx(float(split.direct_E[e]), abs=1e-9 * largest)
        for layer in range(len(patterns)):
            for head in range(patterns[0].shape[0]):
                plain.patterns = [torch.zeros_like(pattern) for pattern in patterns]
                plain.patterns[layer][head] = patterns[layer][head]
                alone = intervened(plain, pair, plan) - direct
                part = float(split.head_ELH[e, layer, head])
                assert alone == pytest.approx(part, abs=1e-9 * largest)


def test_heads_reach_no_further_than_the_block_form_allows(traced):
    lm, _, _, _, graph = traced
    pairs = [pair for pair in some_pairs(graph) if pair.target.kind == "feature"]
    split = split_of(graph, pairs)
    own = torch.tensor([pair.target.layer for pair in pairs])
    of_the_own_block = split.head_ELH[torch.arange(len(pairs)), own].abs().max()
    assert float(of_the_own_block) == 0.0 if lm.facts.residual == "parallel" else float(of_the_own_block) > 0
    for e, pair in enumerate(pairs):
        assert float(split.head_ELH[e, : pair.source.layer + 1].abs().sum()) == 0.0


def test_parts_of_the_work_do_not_change_the_result(traced, monkeypatch):
    *_, graph = traced
    pairs = some_pairs(graph)
    whole = split_of(graph, pairs)
    monkeypatch.setattr(heads_module, "EDGES", 7)
    for one, other in zip(whole, split_of(graph, pairs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_look_is_the_sorted_pattern(traced):
    *_, graph = traced
    pattern_T = graph.frozen.layers[1].pattern_HTT[1, 9, :10]
    seen = look(graph.frozen, 1, 1, 9, source=4, top=3)
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


def test_edges_of_a_circuit_are_split_without_its_table(tracer, circuit):
    edges = kept_edges(circuit)[:5]
    again = circuit_edge_heads(tracer, circuit, edges)
    for one, other in zip(again, edge_heads(tracer, 3, edges, label="CD19+ B"), strict=True):
        assert one.one_head == pytest.approx(other.one_head, rel=1e-6, abs=1e-9)
        assert [part[:2] for part in one.heads] == [part[:2] for part in other.heads]


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
    with pytest.raises(ScxError, match="no edge from"):
        circuit_edge_heads(tracer, circuit, [("t:0", "f:9:9:9")])
    with pytest.raises(ScxError, match="no cell 99"):
        edge_heads(tracer, 99, [])


def test_ids_are_those_of_the_json(tracer, circuit):
    frozen = make_frozen(tracer)
    for node in circuit.nodes:
        if node.kind != "bias":
            assert parse_ref(node.id, frozen).id == node.id


def make_frozen(tracer):
    from scx_core.circuits.scene import scene_of_row

    return scene_of_row(tracer, 3, "CD19+ B").frozen
