"""Differences: means less means, intervals, what is kept apart, and the same thing less itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits import Circuit, ConsensusConfig, make_tracer
from scx_core.circuits.difference import compare_models, compare_types
from scx_core.errors import ScxError
from scx_core.statistics.resampling import two_groups
from tests.tiny import random_set, renamed_table, tiny_language

A, B = "CD19+ B", "Dendritic"
CFG = ConsensusConfig(cells=4, nodes=40, min_share=0.0)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tracer(lm):
    return make_tracer(lm, random_set(lm, "relu", skip=True), renamed_table())


def test_every_number_is_the_first_mean_less_the_second(tracer):
    found = compare_types(tracer, A, B, cfg=CFG)
    first, second = ({g.gene: g.effect for g in side.genes} for side in (found.first, found.second))
    for gene in found.difference.genes:
        assert gene.effect == pytest.approx(first.get(gene.gene, 0.0) - second.get(gene.gene, 0.0), abs=1e-6)
        assert gene.low <= gene.effect <= gene.high
    weights = [{(e.source, e.target): e.weight for e in side.edges} for side in (found.first, found.second)]
    assert found.difference.edges
    for edge in found.difference.edges:
        pair = edge.source, edge.target
        assert edge.weight == pytest.approx(weights[0].get(pair, 0.0) - weights[1].get(pair, 0.0), abs=1e-6)
    assert found.difference.target.value == pytest.approx(
        found.first.target.value - found.second.target.value
    )
    assert found.first.target.against == (B,)
    assert Circuit.from_json(json.loads(json.dumps(found.difference.to_json()))) == found.difference


def test_a_set_less_itself_is_nothing(tracer):
    found = compare_models(tracer, tracer, A, cfg=CFG)
    assert max(abs(edge.weight) for edge in found.difference.edges) < 1e-12
    for gene in found.difference.genes:
        assert (gene.effect, gene.low, gene.high, gene.sd) == pytest.approx((0, 0, 0, 0), abs=1e-12)
    assert found.difference.target.value == 0.0


def test_features_of_two_sets_are_kept_apart_and_genes_are_not(lm, tracer):
    other = make_tracer(lm, random_set(lm, "relu", skip=True, seed=5), renamed_table())
    found = compare_models(tracer, other, A, cfg=CFG)
    ids = {node.id for node in found.difference.nodes if node.kind == "feature"}
    assert ids
    assert {name[:2] for name in ids} == {"A:", "B:"}
    mine = {f"A:{node.id}" for node in found.first.nodes if node.kind == "feature"}
    assert {name for name in ids if name[0] == "A"} <= mine
    assert {g.gene for g in found.difference.genes} == {g.gene for g in found.first.genes}


def test_pairs_are_drawn_together(tracer):
    sampling = two_groups(5, 5, 0, paired=True)
    value = np.random.default_rng(1).normal(size=(5, 3))
    shifted = np.vstack([value + 2.0, value])
    found = sampling.of(shifted)
    assert found.mean == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0), "the cells' own spread cancels"
    assert found.sd == pytest.approx(0.0)
    apart = two_groups(5, 5, 0).of(shifted)
    assert (apart.low < 2.0).all()
    assert (apart.high > 2.0).all()


def test_mistakes_are_named(tracer, lm):
    with pytest.raises(ScxError, match="both"):
        compare_types(tracer, A, A, cfg=CFG)
    other = make_tracer(lm, tracer.transcoders, renamed_table({A: "B cells"}))
    other.table.fingerprint = "others"
    with pytest.raises(ScxError, match="not the same cells"):
        compare_models(tracer, other, A, cfg=CFG)
