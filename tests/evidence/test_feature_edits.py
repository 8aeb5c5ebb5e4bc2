"""Edits of features in the real model, on a tiny random one: what is written is what was asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scx_core.circuits import make_tracer
from scx_core.cli.evidence.questions.steer import summary
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, reference_of
from scx_core.evidence.feature_edits import (
    Edit,
    EditConfig,
    EditedModel,
    activity_of,
    edit_features,
    random_groups,
)
from scx_core.evidence.interventions import Intervention
from scx_core.language import mlp_io, score_answers
from scx_core.language.answers import answers_of
from scx_core.language.hooks import replaced_mlps
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = EditConfig(top=2, circuit_cells=4, measured=3, reference_cells=4, draws=2)
NODES = np.array([[0, 3], [1, 2], [1, 9]])


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))


@pytest.fixture(scope="module")
def model(tracer):
    return EditedModel(tracer, tracer.plan(LABEL), [0, 1, 2])


def test_untouched_cells_are_the_models(tracer, model):
    score_BK = tracer.scores(model.cells).sum(-1)
    own = tracer.labels.index(LABEL)
    odds_B = score_BK[:, own] - np.logaddexp.reduce(np.delete(score_BK, own, 1), 1)
    assert model.before.log_odds_B == pytest.approx(odds_B, abs=1e-8)
    assert model.before.called_B.tolist() == [name == LABEL for name in tracer.predict([0, 1, 2])]


def test_an_edit_of_nothing_changes_nothing(model):
    for mode in ("ablate", "steer"):
        edited = model.edited(Edit(NODES, mode, 0.0, np.ones(3)))
        assert edited.log_odds_B == pytest.approx(model.before.log_odds_B, abs=1e-9)


def test_ablation_at_the_last_layer_is_the_intervention_with_errors_kept(tracer, model):
    """There both models agree: upstream nothing changes, and no MLP follows. Of features that are active at
    the first cell's last token."""
    ids = torch.tensor([list(model.cells[0].ids)])
    x_d = mlp_io(tracer.lm, ids, torch.ones_like(ids)).inputs[1][0, -1]
    active = np.flatnonzero(tracer.rep.transcoders.layers[1].encode(x_d).numpy())[:2]
    last = np.stack([np.ones_like(active), active], 1)
    plan, how = tracer.plan(LABEL), InterventionConfig(reference="zero", keep_errors=True)
    coders = tracer.rep.transcoders
    reference = reference_of(tracer.lm, coders, plan, model.cells, how)
    tried = Intervention(tracer.lm, coders, plan, model.cells, reference, how)
    edited = model.edited(Edit(last, "ablate", 1.0))
    assert edited.target_B == pytest.approx(tried.values([last], removed=True)[0], abs=1e-6)
    assert np.abs(edited.target_B - model.before.target_B).max() > 1e-4
    held = model.edited(Edit(last, "set", 0.0, np.ones(2)))
    assert held.target_B == pytest.approx(edited.target_B, abs=1e-9)


def test_steering_adds_the_decoder_direction(tracer, model):
    """Against the MLPs' outputs changed by hand, at every token."""
    lm, coder = tracer.lm, tracer.rep.transcoders.layers[0]
    mlp = lm.part(0, "mlp")
    edited = model.edited(Edit(np.array([[0, 3]]), "steer", -2.0, np.array([1.5])))
    by_hand = {0: lambda x: type(mlp).forward(mlp, x) - 3.0 * coder.W_dec_Fd[3]}
    with replaced_mlps(lm, by_hand):
        answers = list(answers_of(lm, tracer.labels, tracer.lead).values())
        score_BK = score_answers(lm, [cell.ids for cell in model.cells], answers).sum(-1)
    own = tracer.labels.index(LABEL)
    odds_B = score_BK[:, own] - np.logaddexp.reduce(np.delete(score_BK, own, 1), 1)
    assert edited.log_odds_B == pytest.approx(odds_B, abs=1e-7)


def test_patching_from_the_cell_itself_changes_only_genes(tracer):
    """Its own activations at the words of the prompt; at genes their mean, as all genes are one place."""
    plan, how = tracer.plan(LABEL), InterventionConfig(keep_errors=True)
    model = EditedModel(tracer, plan, [0], where="answer")
    source = reference_of(tracer.lm, tracer.rep.transcoders, plan, model.cells, how)
    own = model.edited(Edit(np.array([[0, 3], [0, 9]]), "patch", 1.0, None, source))
    assert own.target_B == pytest.approx(model.before.target_B, abs=1e-8)
    other = reference_of(tracer.lm, tracer.rep.transcoders, plan, tracer.encode([5]), how)
    model = EditedModel(tracer, plan, [0])
    half, whole = (model.edited(Edit(NODES, "patch", dose, None, other)) for dose in (0.5, 1.0))
    assert len({float(one.target_B[0]) for one in (model.before, half, whole)}) == 3


def test_activity_and_activations_are_those_of_the_model(tracer, model):
    found = activity_of(tracer, model.cells, batch=2)
    mean_BLF = model.edited(None, activations=True).activation_BLF
    tokens = np.array([len(cell.ids) for cell in model.cells])
    mass_LF = np.zeros_like(found.mass_LF)
    for cell in model.cells:
        ids = torch.tensor([list(cell.ids)])
        inputs = mlp_io(tracer.lm, ids, torch.ones_like(ids)).inputs
        z = [coder.encode(x[0]) for coder, x in zip(tracer.rep.transcoders.layers, inputs, strict=True)]
        mass_LF += np.stack([one.abs().sum(0).numpy() for one in z])
    assert found.mass_LF == pytest.approx(mass_LF)
    assert np.einsum("b,blf->lf", tokens, mean_BLF) == pytest.approx(mass_LF)  # no activation is negative
    assert ((found.frequency_LF > 0) == (found.mass_LF > 0)).all()


def test_random_groups_are_of_the_same_layers(tracer, model):
    activity = activity_of(tracer, model.cells)
    for group in random_groups(NODES, activity, 4, 0):
        assert group[:, 0].tolist() == NODES[:, 0].tolist()
        assert not set(map(tuple, group)) & set(map(tuple, NODES))


@pytest.mark.parametrize("mode", ["ablate", "steer", "set", "patch"])
def test_a_dose_curve(tracer, mode):
    found = edit_features(tracer, LABEL, mode=mode, features=[(0, 3), (1, 2)], doses=[0.5, 1.0], cfg=CFG)
    data = json.loads(json.dumps(found.to_json()))
    assert [one["dose"] for one in data["doses"]] == [0.5, 1.0]
    for one in data["doses"]:
        assert one["effect"]["log_odds"]["low"] <= one["effect"]["log_odds"]["mean"]
        assert one["random_least"] <= one["random"]["log_odds"]["mean"] <= one["random_most"]
        called = one["effect"]["called"]
        assert 0 <= called["low"] < called["high"] <= 1  # three cells of three are not certainly all
        own, random = one["effect"]["log_odds"]["mean"], one["random"]["log_odds"]["mean"]
        assert one["ahead"]["mean"] == pytest.approx(own - random)
    assert "L0·3" in summary(data)
    assert data["source"] == ("all but Dendritic" if mode == "patch" else None)


def test_the_features_of_the_circuit_are_the_default(tracer):
    found = edit_features(tracer, LABEL, mode="ablate", cfg=CFG)
    assert len(found.features) == 2
    groups = [set(rows) for rows in found.cells.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"mode": "melt"}, "no edit 'melt'"),
        ({"features": [(7, 0)]}, "no feature 7:0"),
        ({"features": [(0, 1), (0, 1)]}, "given twice"),
        ({"mode": "patch", "source": "no such", "features": [(0, 1)]}, "no such"),
    ],
)
def test_what_does_not_exist_is_named(tracer, asked, words):
    with pytest.raises(ScxError, match=words):
        edit_features(tracer, LABEL, cfg=CFG, **asked)
