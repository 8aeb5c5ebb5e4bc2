"""The smallest circuit of a type and of a cell, on a tiny random model: what is reported was measured."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scx_core.bench.smallest import _row, smallest_table
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.claims.of_effects import smallest_claims
from scx_core.cli.bench import _smallest_text
from scx_core.cli.evidence.smallest import summary
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.interventions import Intervention
from scx_core.evidence.smallest.faithfulness import (
    FaithfulnessProblem,
    activation_mass,
    faithfulness,
    feature_contribution,
    matched_sets,
)
from scx_core.evidence.smallest.graph_baselines import (
    GraphScores,
    graph_scores_of,
    greedy_orders,
    influence_cut,
)
from scx_core.evidence.smallest.smallest_circuit import (
    CUTS,
    SmallestConfig,
    smallest,
    smallest_in_cell,
    split_cells,
)
from scx_core.language import mlp_io
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = SmallestConfig(search_cells=4, unseen_cells=3, reference_cells=8, nodes=200, wanted=0.7)
NAMES = {"ours", "greedy", "random", *(name for names in CUTS.values() for name in names)}


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))


@pytest.fixture(scope="module")
def found(tracer):
    return smallest(tracer, LABEL, cfg=CFG)


def test_what_is_reported_can_be_measured_again(tracer, found):
    """An intervention that is set up from the rows and the nodes of the result alone."""
    coders, cfg = tracer.rep.transcoders, InterventionConfig(rows=1)
    plan, rows = tracer.plan(LABEL), found.cells
    reference = reference_of(tracer.lm, coders, plan, tracer.encode(rows["reference"]), cfg)
    nodes = np.array(found.nodes)
    for group, value in (("search", found.reached_search), ("unseen", found.reached_unseen)):
        tried = Intervention(tracer.lm, coders, plan, tracer.encode(rows[group]), reference, cfg)
        measured = faithfulness(tried.values([nodes]), tried.empty_B, tried.full_B)[0]
        assert value == pytest.approx(measured, abs=1e-9)
    assert found.logits["full"] == pytest.approx(tried.full_B.mean())
    assert found.curve[-1] == (len(nodes), pytest.approx(found.reached_unseen))


def test_what_was_asked_is_kept_in_the_cells_of_the_search(found):
    assert set(found.sets) == NAMES
    assert found.reached_search >= CFG.wanted + CFG.margin
    assert len(found.nodes) == found.sizes["ours"] <= found.sizes["greedy"]
    for cut, ours, greedy in CUTS.values():
        recovered = found.sets[cut].search
        assert found.sets[ours].search >= recovered + CFG.margin or not found.sets[ours].reached
        assert found.sets[greedy].search >= recovered or not found.sets[greedy].reached
    assert found.sizes["strict_cut"] <= found.sizes["influence_cut"]
    assert all(one.low <= one.unseen <= one.high for one in found.sets.values())
    assert all(one.whole_low <= one.whole <= one.whole_high for one in found.sets.values())


def test_no_cell_has_two_roles(tracer, found):
    groups = [set(rows) for rows in found.cells.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    labels = tracer.table.labels
    assert {labels[row] for row in found.cells["search"] + found.cells["unseen"]} == {LABEL}
    assert {labels[row] for row in found.cells["reference"]} == set(tracer.table.types) - {LABEL}


def test_the_same_inputs_give_the_same_result_and_it_is_json(tracer, found):
    again = smallest(tracer, LABEL, cfg=CFG)
    assert again == found
    text = json.dumps(found.to_json(), allow_nan=False)
    shown = summary(json.loads(text))
    assert "influence cut" in shown and "3 others verified" in shown


def test_closeness_counts_what_goes_beyond_full(tracer):
    cfg = SmallestConfig(**{**CFG.__dict__, "measure": "closeness", "compare": False})
    one = smallest(tracer, LABEL, cfg=cfg)
    assert set(one.sets) == {"ours", "random"} and one.unexplored is None
    assert one.reached_search >= 0.71 and one.reached_unseen == one.sets["ours"].closeness


def test_one_cell_by_position(tracer):
    one = smallest_in_cell(tracer, 7, label=LABEL, cfg=CFG)
    assert one.scope == "cell" and one.reached_unseen is None and one.interval is None
    assert all(len(node) == 3 for node in one.nodes)
    assert one.reached_search >= CFG.wanted
    assert 7 not in one.cells["reference"]
    assert one.sizes["ours"] <= one.sizes["greedy"]
    assert summary(one.to_json())


def test_graph_scores_are_means_of_the_cells_own_graphs(tracer):
    rows = [4, 9]
    plan, shape = tracer.plan(LABEL), (2, tracer.transcoders.n_features)
    scores = graph_scores_of(tracer.rep, plan, tracer.encode(rows), shape, 5000)
    circuits = [
        tracer.cell(row, label=LABEL, cfg=TraceConfig(nodes=5000, node_share=1.0, edge_share=1.0))
        for row in rows
    ]
    influence_LF, effect_LF, others = np.zeros(shape), np.zeros(shape), 0.0
    for circuit in circuits:
        for node in circuit.nodes:
            if node.kind == "feature":
                influence_LF[node.layer, node.feature] += node.influence / 2
                effect_LF[node.layer, node.feature] += node.effect / 2
            elif node.kind != "target":
                others += node.influence / 2
    assert scores.influence_X == pytest.approx(influence_LF.ravel(), abs=1e-6)
    assert scores.effect_X == pytest.approx(effect_LF.ravel(), abs=1e-6)
    assert sum(scores.others.values()) == pytest.approx(others, abs=1e-6)
    assert scores.unexplored == pytest.approx(0, abs=1e-6)


def test_the_cuts_and_the_orders():
    influence_X = np.array([0.1, 0.5, 0.0, 0.2, 0.2])
    scores = GraphScores(influence_X, np.array([1.0, -3.0, 0.0, 2.0, 0.5]), {"prompt": 0.6, "e:0": 0.05}, 0.0)
    assert influence_cut(scores, 0.8).tolist() == [1, 3, 4]
    assert influence_cut(scores, 0.7).tolist() == [1, 3]
    assert influence_cut(scores, 0.65, "all").tolist() == [1], "1.1 of 1.65 with the prompt"
    orders = greedy_orders(scores)
    assert orders["influence"].tolist() == [1, 3, 4, 0]
    assert orders["effect"].tolist() == [1, 3, 0, 4]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: smallest(t, "Neuron"), "Neuron"),
        (lambda t: smallest_in_cell(t, 40), "no cell 40"),
        (lambda t: split_cells(_few(t), LABEL, 4, 4, 4, 0), "3 cells"),
    ],
)
def test_mistakes_are_named(tracer, call, words):
    with pytest.raises(ScxError, match=words):
        call(tracer)


def _few(tracer):
    labels = np.where(np.cumsum(tracer.table.labels == LABEL) <= 3, tracer.table.labels, "")
    return SimpleNamespace(table=SimpleNamespace(labels=labels, name="few", types=[LABEL]))


@pytest.mark.parametrize(
    ("full", "empty", "sd", "words"),
    [
        (3.0, 2.0, 0.5, ""),
        (1.0, 2.0, 0.5, ""),
        (3.0, 2.0, 1.5, "varies"),
        (0.25, 0.2, 0.0, "less than 0.1 logits"),
        (3.64, 3.08, 0.3, "less than 20% of the target"),
    ],
)
def test_a_share_of_next_to_nothing_is_called_faint(found, full, empty, sd, words):
    full_B = full + sd * np.array([-1.0, 1.0, -1.0, 1.0])
    added = feature_contribution(full_B, np.full(4, empty), 0)
    assert " ".join(added.faint).count(words) and bool(added.faint) is bool(words)
    assert added.mean == pytest.approx(full - empty) and added.low <= added.mean <= added.high
    marked = found._replace(added=added)
    assert marked.faint is bool(words)
    record = json.loads(json.dumps(marked.to_json(), allow_nan=False))
    assert record["faint"] is bool(words) and record["added"]["faint"] == list(added.faint)
    assert ("(faint)" in summary(record)) is bool(words)
    row = _row([marked, marked]) | {"seconds": 1.0}
    table = smallest_table({"smallest": [row]}).splitlines()[-1]
    assert table.count("(faint)") == (8 if words else 0), "the type, every share and the ratio are marked"
    assert smallest_table({"smallest": [_row([marked]) | {"seconds": 1.0}]}).splitlines()[-1].endswith("– |")
    said = _smallest_text({"smallest": [row], "influence_cut": "How it was cut."})
    assert "logits remain" in said and table in said


def test_what_remains_without_features_is_said_first_and_shares_are_of_the_whole_too(tracer, found):
    """The share of the whole target is (empty + share × added) / full; the text opens with what remains."""
    full, empty = found.logits["full"], found.logits["empty"]
    assert found.added.mean == pytest.approx(full - empty) and found.added.remains == pytest.approx(
        empty / full
    )
    for one in found.sets.values():
        assert one.whole * full == pytest.approx(empty + one.unseen * (full - empty), abs=1e-9)
    first = summary(found.to_json()).splitlines()[0]
    assert f"without any feature {empty:.2f} of {full:.2f} logits remain" in first


def test_random_sets_are_like_the_found_one_and_measured_in_the_same_cells(tracer, found):
    coders, cfg = tracer.rep.transcoders, InterventionConfig()
    plan, rows = tracer.plan(LABEL), found.cells
    reference = reference_of(tracer.lm, coders, plan, tracer.encode(rows["reference"]), cfg)
    seen, unseen = (
        FaithfulnessProblem(Intervention(tracer.lm, coders, plan, tracer.encode(rows[group]), reference, cfg))
        for group in ("search", "unseen")
    )
    mass_X, n_features = activation_mass(seen), coders.n_features
    by_hand = np.zeros((2, n_features))
    for cell in tracer.encode(rows["search"]):
        ids = torch.tensor([plan.prompt_ids(cell)])
        inputs = mlp_io(tracer.lm, ids, torch.ones_like(ids)).inputs
        for layer, x_BTd in enumerate(inputs):
            by_hand[layer] += coders.layers[layer].encode(x_BTd)[0].sum(0).numpy()
    np.testing.assert_allclose(mass_X, by_hand.ravel(), atol=1e-5)
    kept_X = np.ravel_multi_index(np.array(found.nodes).T, (2, n_features))
    sets = matched_sets(np.sort(kept_X), mass_X, 2, CFG.draws, CFG.seed)
    assert len(sets) == found.ahead["draws"] == CFG.draws
    for one in sets:
        assert not set(one) & set(kept_X) and len(set(one)) == len(one) and (mass_X[one] > 0).all()
        per_layer = [np.bincount(part // n_features, minlength=2) for part in (one, kept_X)]
        assert (per_layer[0] <= per_layer[1]).all()
    each = unseen.scores(sets)
    assert found.sets["random"].unseen == pytest.approx(each.mean())
    assert (found.ahead["least"], found.ahead["most"]) == pytest.approx((each.min(), each.max()))
    assert found.ahead["mean"] == pytest.approx(found.reached_unseen - each.mean())
    assert found.ahead["low"] <= found.ahead["mean"] <= found.ahead["high"]


def test_claims_of_a_smallest_circuit_stand_beside_their_rivals(found):
    enough, keeps, ahead = smallest_claims(found)
    assert (enough.figure, enough.holds) == (found.added.mean, not found.faint)
    assert keeps.baseline == found.wanted and keeps.figure == found.reached_unseen
    assert ahead.baseline == found.sets["random"].unseen
    sure = found._replace(added=found.added._replace(faint=()))
    for low, holds in ((0.1, True), (-0.1, False)):
        claims = smallest_claims(sure._replace(ahead=sure.ahead | {"low": low}))
        assert claims[2].holds is holds
    faint = found._replace(added=found.added._replace(faint=("too little",)))
    assert not any(claim.holds for claim in smallest_claims(faint)), "shares of next to nothing say nothing"
