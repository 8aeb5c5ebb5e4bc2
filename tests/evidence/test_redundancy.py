"""Joint and single ablations on a tiny random model: what is reported was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits import make_tracer
from scx_core.cli.evidence.questions.redundancy import summary
from scx_core.evidence.feature_edits import Edit, EditedModel
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.redundancy import RedundancyConfig, redundancy_of, risen_features
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = RedundancyConfig(top=2, genes=2, risen=3, circuit_cells=4, measured=3, reference_cells=4, draws=2)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))


@pytest.fixture(scope="module")
def found(tracer):
    return redundancy_of(tracer, LABEL, cfg=CFG)


def _nodes(names):
    return np.array([[int(part) for part in name[1:].split("·")] for name in names])


def test_features_can_be_measured_again(tracer, found):
    table = found.tables["features"]
    model = EditedModel(tracer, tracer.plan(LABEL), found.cells["measured"])
    nodes, before = _nodes(table.names), model.before.log_odds_B

    def drop(which):
        return (before - model.edited(Edit(which, "ablate", 1.0)).log_odds_B).mean()

    singles = [drop(nodes[i : i + 1]) for i in range(len(nodes))]
    assert [one.mean for one in table.singles] == pytest.approx(singles)
    assert table.joint.mean == pytest.approx(drop(nodes))
    assert table.gap.mean == pytest.approx(drop(nodes) - sum(singles))


def test_genes_can_be_measured_again(tracer, found):
    table = found.tables["genes"]
    sets = [[gene] for gene in table.names] + [list(table.names)]
    drops = joint_drops(tracer, list(found.cells["measured"]), LABEL, sets).drop_SC.mean(1)
    assert [one.mean for one in table.singles] == pytest.approx(drops[:-1])
    assert table.joint.mean == pytest.approx(drops[-1])


def test_what_rises_stands_above_and_was_chosen_elsewhere(tracer, found):
    nodes = _nodes(found.tables["features"].names)
    made = EditedModel(tracer, tracer.plan(LABEL), found.cells["circuit"])
    risen = risen_features(tracer, made, nodes, CFG.risen)
    assert [(one.layer, one.feature) for one in found.risen] == [tuple(node) for node in risen.tolist()]
    assert all(one.layer > nodes[:, 0].min() for one in found.risen)
    if len(risen):
        seen = EditedModel(tracer, tracer.plan(LABEL), found.cells["measured"])
        off = [
            seen.edited(Edit(which, "ablate", 1.0)).log_odds_B
            for which in (nodes, np.concatenate([nodes, risen]), risen)
        ]
        carried = (off[0] - off[1]) - (seen.before.log_odds_B - off[2])
        assert found.takeover.mean == pytest.approx(carried.mean())
    assert found.ahead.mean == pytest.approx(found.takeover.mean - found.random.mean)


def test_the_text_says_what_the_json_says(found):
    data = json.loads(json.dumps(found.to_json()))
    text = summary(data)
    assert "random features" in text and "random genes" in text
    assert f"{data['tables']['genes']['joint']['mean']:.2f}" in text
