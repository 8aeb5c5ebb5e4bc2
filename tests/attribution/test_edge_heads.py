"""Edges split by head, against interventions in a naive model with heads silenced, for every block form."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch

from scx_core.attribution import edge_heads as heads_module
from scx_core.attribution.edge_heads import Pair, attended, edge_weights, last_heads, split_edges
from scx_core.attribution.endpoints import Ref
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.circuits.trace import Graph, trace_graph
from tests.identities.autograd import Frozen, Leaves
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language

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
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
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


def test_last_heads_and_the_direct_part_are_the_edge(traced, monkeypatch):
    graph = traced.graph
    pairs = some_pairs(graph)
    split, last_ELH = split_of(graph, pairs), last_heads(graph.frozen, pairs, graph.target)
    whole_E = split.direct_E + last_ELH.sum((1, 2))
    torch.testing.assert_close(whole_E, split.weight_E, rtol=1e-9, atol=1e-10)
    monkeypatch.setattr(heads_module, "SOURCES", 3)
    torch.testing.assert_close(last_heads(graph.frozen, pairs, graph.target), last_ELH, rtol=1e-9, atol=1e-12)


def test_the_part_of_a_head_right_below_the_target_is_lost_with_it(traced):
    """No head follows it, so that its paths are those that it is the last of."""
    naive, pairs = traced.naive, [pair for pair in some_pairs(traced.graph) if pair.target.kind == "target"]
    last_ELH, patterns = last_heads(traced.graph.frozen, pairs, traced.graph.target), naive.patterns
    for e, pair in enumerate(pairs[:3]):
        for head in range(patterns[2].shape[1]):
            naive.patterns = patterns
            whole = intervened(traced, pair)
            silenced = patterns[2].clone()
            silenced[0, head] = 0.0
            naive.patterns = (*patterns[:2], silenced)
            lost = whole - intervened(traced, pair)
            assert lost == pytest.approx(float(last_ELH[e, 2, head]), rel=1e-8, abs=1e-11)
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
    seen = attended(frozen, 1, 1, 9, source=4, top=3)
    assert seen.weights == tuple(sorted(pattern_T.tolist(), reverse=True)[:3])
    assert [float(pattern_T[s]) for s in seen.positions] == list(seen.weights)
    assert seen.rank == 1 + int((pattern_T > pattern_T[4]).sum())
