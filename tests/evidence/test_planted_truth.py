"""Scores against known rules: the arithmetic by hand, and the shipped planted model."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.cells import RULES, open_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.planted_truth import PlantedConfig, _area, _flips, _score, score_planted
from scx_core.language import load_language
from scx_core.transcoders import load_set
from tests.tiny import random_set, tiny_language, tiny_table

BY_NAME = {rule.name: rule for rule in RULES}


def test_which_removal_changes_the_label():
    noise = {"NOISEA": False}
    assert _flips(BY_NAME["both"], ["BOTHA", "BOTHM"]) == {"BOTHA": False}  # no law without the marker
    assert _flips(BY_NAME["both"], ["BOTHA", "BOTHB", "NOISEA"]) == {"BOTHA": True, "BOTHB": True} | noise
    assert _flips(BY_NAME["either"], ["EITHERA", "EITHERB"]) == {"EITHERA": False, "EITHERB": False}
    assert _flips(BY_NAME["unless"], ["UNLESSA", "UNLESSB"]) == {"UNLESSA": False, "UNLESSB": True}
    assert _flips(BY_NAME["either"], ["EITHERB", "NOISEA"]) == {"EITHERB": True} | noise
    assert not any(_flips(BY_NAME["twoof"], ["TWOOFA", "TWOOFB", "TWOOFC"]).values())


def test_the_area_is_the_chance_of_the_right_order():
    truth = np.array([True, False, True, False])
    ones = np.ones(4)
    assert _area(np.array([3.0, 1.0, 2.0, 0.0]), truth, ones) == 1.0
    assert _area(np.array([0.0, 3.0, 1.0, 2.0]), truth, ones) == 0.0
    assert _area(np.zeros(4), truth, ones) == 0.5
    # By hand: of the four pairs one is in the right order, one equal.
    assert _area(np.array([2.0, 2.0, 1.0, 1.5]), truth, ones) == pytest.approx((0.5 + 1) / 4)
    assert _area(np.array([3.0, 1.0, 0.0, 2.0]), truth, np.array([1.0, 1, 0, 1])) == 1.0


def test_a_method_that_knows_the_rule_scores_one_and_one_that_does_not_scores_low():
    rule = BY_NAME["both"]
    cells = [["BOTHA", "BOTHB", "NOISEA", "BOTHP"]] * 3 + [["BOTHA", "NOISEB", "BOTHP"]] * 3
    flips = [_flips(rule, genes) for genes in cells]
    knows = [{gene: float(value) for gene, value in cell.items()} for cell in flips]
    found = _score("circuit", knows, rule, flips, 0)
    assert found.recovered == (1.0, 1.0, 1.0)
    assert found.flips == (1.0, 1.0, 1.0)
    fooled = [{gene: float(gene == "BOTHP") for gene in genes} for genes in cells]
    found = _score("gradient", fooled, rule, flips, 0)
    assert found.recovered[0] <= 0.5
    assert found.flips[0] < 0.5


def test_other_cells_are_refused(tmp_path):
    lm = tiny_language(tmp_path / "tiny")
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), tiny_table(8))
    with pytest.raises(ScxError, match="planted"):
        score_planted(tracer)


@pytest.fixture(scope="module")
def scored():
    tracer = make_tracer(load_language("planted", "cpu"), load_set("planted"), open_cells("planted"))
    return score_planted(tracer, PlantedConfig(cells=12, joint_cells=1, accuracy_cells=200))


def test_the_shipped_model_knows_its_rules_in_every_corner(scored):
    accuracy = scored["answers"]["accuracy"]
    assert accuracy["model"]["share"] >= 0.97
    assert min(row["share"] for row in scored["answers"]["truth_table"].values()) >= 0.8
    assert accuracy["transcoders"]["share"] >= 0.95


def test_linear_maps_cannot_do_what_it_does(scored):
    accuracy = scored["answers"]["accuracy"]
    assert accuracy["linear maps"]["high"] < 0.7 < accuracy["model"]["low"]


def test_measured_knock_outs_follow_the_rules(scored):
    for rule in scored["rules"].values():
        assert rule["model_follows"]["share"] >= 0.95
        assert rule["scores"]["knock-out"]["flips"][0] >= 0.95
    assert scored["mean"]["knock-out"]["recovered"] >= 0.85
