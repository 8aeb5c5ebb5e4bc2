"""Patterns that are made again a layer at a time give the circuit of kept patterns, and the laws hold."""

from __future__ import annotations

import pytest
import torch

from scx_core.attribution.edge_heads import Pair, attended, edge_weights, split_edges
from scx_core.attribution.endpoints import Ref
from scx_core.attribution.local_replacement_model import freeze, freeze_many
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.circuits.trace import trace_graph
from scx_core.language import patterns
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language

MODELS = [
    {"parallel": True},
    {"parallel": False},
    {"family": "gpt2"},
    {"family": "llama"},
    {"family": "qwen3"},
    {"family": "gemma2"},
]
SAME = {"float64": 1e-6, "float32": 1e-5}  # patterns are made in float32 by most families
ACCOUNTING = {"float64": 1e-9, "float32": 1e-4}


@pytest.fixture
def by_layer(monkeypatch):
    """Every prompt counts as long; three or so blocks of queries."""

    def switch():
        monkeypatch.setattr(patterns, "KEPT_NUMBERS", 0)
        monkeypatch.setattr(patterns, "BLOCK_NUMBERS", 700)

    return switch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_same_circuit_and_the_same_laws(tmp_path, by_layer, model, dtype):
    lm = tiny_language(tmp_path, layers=3, dtype=dtype, **model)
    rep = replacement(lm, random_set(lm, "topk", True).to(dtype=lm.dtype))
    cell, plan = tiny_cells(lm)[0], plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    kept = trace_graph(rep, cell, plan, 30)
    by_layer()
    again = trace_graph(rep, cell, plan, 30)
    assert isinstance(again.frozen.layers[0].pattern, patterns.RecomputedPattern)
    assert len(patterns._blocks(again.frozen.layers[0].pattern.asked.again().query_BHTk, len(cell.ids))) > 2
    for one, other in zip(kept.chosen, again.chosen, strict=True):
        torch.testing.assert_close(one, other)
    largest = float(abs(kept.weight_RS).max())
    torch.testing.assert_close(
        torch.from_numpy(again.weight_RS),
        torch.from_numpy(kept.weight_RS),
        rtol=SAME[dtype],
        atol=SAME[dtype] * largest,
    )
    assert again.table.max_relative_error() <= ACCOUNTING[dtype]
    total = again.effects.token_T.sum() + again.effects.error_LT.sum() + again.effects.bias
    assert float(total) == pytest.approx(again.value, rel=10 * ACCOUNTING[dtype])


def test_heads_read_the_same_patterns(tmp_path, by_layer):
    lm = tiny_language(tmp_path, layers=3)
    rep, ids = replacement(lm, random_set(lm, "topk", False)), tiny_cells(lm)[0].ids
    plan = plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    found = []
    for way in (lambda: None, by_layer):
        way()
        graph = trace_graph(rep, tiny_cells(lm)[0], plan, 20)
        pairs = [Pair(Ref("embedding", -1, t), Ref("target", 3, len(ids) - 1)) for t in (1, 5, 9)]
        weight_E = edge_weights(graph.frozen, pairs, graph.target)
        split = split_edges(graph.frozen, pairs, weight_E, graph.target)
        found.append((*split, attended(graph.frozen, 1, 1, 9, 4, 3)))
    for one, other in zip(*(parts[:-1] for parts in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert found[0][-1].positions == found[1][-1].positions and found[0][-1].rank == found[1][-1].rank


def test_a_padded_batch_and_fewer_positions(tmp_path, by_layer):
    lm = tiny_language(tmp_path, layers=2)
    rep, ids = replacement(lm, random_set(lm, "topk", False)), list(tiny_cells(lm)[0].ids)
    kept = [freeze(rep, one) for one in (ids, ids[:20])]
    by_layer()
    for one, other in zip(kept, freeze_many(rep, [ids, ids[:20]]), strict=True):
        for a, b in zip(one.layers, other.layers, strict=True):
            torch.testing.assert_close(a.pattern_HTT, b.pattern_HTT, rtol=1e-6, atol=1e-8)
            torch.testing.assert_close(a.error_Td, b.error_Td, rtol=1e-6, atol=1e-6)
            whole_HTT = b.pattern_HTT.clone()
            assert torch.equal(b.pattern.up_to(11), whole_HTT[:, :11, :11])
            torch.testing.assert_close(b.pattern.row_sums(), whole_HTT.sum(-1), rtol=1e-6, atol=0)


def test_the_plan_depends_on_the_prompt_alone(tmp_path):
    lm = tiny_language(tmp_path, layers=2)
    most = int((patterns.KEPT_NUMBERS / (lm.facts.n_layers * lm.facts.n_heads)) ** 0.5)
    assert patterns.patterns_plan(lm, most) == patterns.KEPT
    assert patterns.patterns_plan(lm, most + 1) == patterns.BY_LAYER
