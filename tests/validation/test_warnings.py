"""Warnings and verdict: each failure sign alone, at both sides of its threshold."""

from __future__ import annotations

import pytest

from scx_core.claims.of_model import validation_claims
from scx_core.statistics.intervals import Interval
from scx_core.validation import PAPER, Validation, cautions, verdict
from scx_core.validation.result import AddedByFeatures, BaselineRow, ClassRow, Confusion, LayerRow, Logistic
from scx_core.validation.warnings import needed

ROW = LayerRow(0, 2.0, 3.0, 0.01, 0.99, 0.02, 15.0, 0.02, 0.2, 0.8)
CLASS = ClassRow(1000, 2.0, 2.1, 12.0, 9.0, 0.99, 0.01, 15.0)
SURE, UNSURE = Interval(0.1, 0.3), Interval(-0.1, 0.3)
# A stand-in without features that leaves much: features win back nearly all of it.
ADDED = AddedByFeatures("linear", 0.6, 0.99, SURE, "token_linear", 0.7, 0.28, SURE, 0.4, 0.37, SURE, "yes")
BASELINE = BaselineRow("linear", "a linear map of each MLP", 5.0, 0.6, 2.0, 0.5, 0.7, 0.5, {})
GOOD = Validation(
    n_cells=70,
    n_tokens=20_000,
    ce_orig=2.0,
    ce_transcoder=2.01,
    ce_zero=12.0,
    ce_mean=9.0,
    ce_recovered=0.999,
    kl=0.004,
    l0=15.0,
    fvu=0.02,
    dead=0.02,
    live_share=0.97,
    n_features=1024,
    label_accuracy_orig=0.78,
    label_accuracy_transcoder=0.77,
    label_agreement=0.98,
    per_layer=(ROW, ROW._replace(layer=1)),
    by_token_class={"prompt": CLASS, "gene": CLASS, "answer": CLASS},
    confusion=Confusion(("a", "b"), ((30, 5), (10, 25)), ((30, 5), (11, 24))),
    warnings=(),
    provenance={},
    baselines=(BASELINE,),
    added=ADDED,
)
LINEAR = GOOD._replace(
    added=ADDED._replace(
        ce_recovered=0.985, agreement=0.95, agreement_gain=0.03, accuracy_gain_interval=UNSURE, needed="no"
    ),
    baselines=(BASELINE._replace(ce_recovered=0.985, label_agreement=0.94),),
)


def signs(found: Validation) -> list[str]:
    return [caution.sign for caution in cautions(found)]


def second_layer(**change) -> dict:
    return {"per_layer": (ROW, ROW._replace(layer=1, **change))}


def test_good_figures_call_for_no_warning():
    assert signs(GOOD) == []
    assert "can be read" in verdict(GOOD)
    assert "98% of 70" in verdict(GOOD)


@pytest.mark.parametrize(
    ("change", "sign", "layers"),
    [
        ({"ce_recovered": 0.89}, "reconstruction", ()),
        ({"ce_recovered": float("nan")}, "reconstruction", ()),
        ({"ce_zero": 2.0}, "mlps", ()),
        ({"ce_zero": 1.9, "ce_recovered": 1.1}, "mlps", ()),
        ({"dead": 0.26}, "dead", ()),
        ({"n_cells": 49}, "cells", ()),
        ({"label_agreement": 0.89}, "agreement", ()),
        ({"label_accuracy_orig": 0.49}, "accuracy", ()),
        ({"label_accuracy_orig": 0.5}, "accuracy", ()),  # no better than always naming the commonest type
        (second_layer(fvu=0.31), "fvu", (1,)),
        (second_layer(fvu=float("nan")), "fvu", (1,)),
        (second_layer(l0=0.9), "silent", (1,)),
        (second_layer(l0=52.0), "dense", (1,)),
        (second_layer(prompt_mass=0.51), "prompt", (1,)),
    ],
)
def test_each_sign_alone(change, sign, layers):
    bad = GOOD._replace(**change)
    assert signs(bad) == [sign]
    (caution,) = cautions(bad)
    assert caution.layers == layers
    assert caution.remedy
    if layers:
        assert caution.text.startswith("Layer 1:")


def test_at_the_threshold_there_is_no_warning():
    edge = GOOD._replace(
        ce_recovered=0.9,
        dead=0.25,
        n_cells=50,
        label_agreement=0.9,
        per_layer=(ROW._replace(fvu=0.3, l0=1.0, prompt_mass=0.5), ROW._replace(layer=1, l0=51.2)),
    )
    assert signs(edge) == []
    small = {"n_features": 256, "per_layer": (ROW._replace(l0=32.0),)}
    assert signs(GOOD._replace(**small)) == []


def test_the_papers_own_figures_are_warned_about():
    paper = {key: value for key, value in PAPER.items() if key in Validation._fields}
    assert "reconstruction" in signs(GOOD._replace(**paper))
    recovered = (PAPER["ce_zero"] - PAPER["ce_transcoder"]) / (PAPER["ce_zero"] - PAPER["ce_orig"])
    assert recovered == pytest.approx(PAPER["ce_recovered"], abs=5e-4)


def test_verdict_grows_graver_with_the_figures():
    assert "Do not read" in verdict(GOOD._replace(ce_recovered=0.5))
    assert "Do not read" in verdict(GOOD._replace(label_agreement=0.5))
    assert "no better with its MLPs" in verdict(GOOD._replace(ce_zero=1.9, ce_recovered=1.1))
    assert "many mistakes" in verdict(GOOD._replace(label_accuracy_orig=0.4))
    assert "warnings in mind" in verdict(GOOD._replace(dead=0.5))
    assert "can be read" in verdict(GOOD._replace(n_cells=20))


def test_one_label_says_nothing():
    assert "labels" in signs(GOOD._replace(confusion=Confusion(("a",), ((70,),), ((70,),))))


def test_nothing_can_be_read_where_a_linear_map_does_as_well():
    assert signs(LINEAR) == ["features"]
    said = verdict(LINEAR)
    assert "a linear map of each MLP does nearly as well" in said
    assert "features are not needed to explain this model" in said and "can be read" not in said
    assert "nor do the labels" in cautions(LINEAR)[0].text
    sure = LINEAR._replace(added=LINEAR.added._replace(accuracy_gain_interval=SURE))
    assert "but the labels do" in cautions(sure)[0].text


def test_between_the_two_it_says_what_needs_no_feature():
    partly = GOOD._replace(added=ADDED._replace(ce_recovered=0.92, needed="partly"))
    assert "Part of what the model does needs no feature" in verdict(partly) and signs(partly) == []
    assert "can be read" not in verdict(partly)


def test_without_baselines_nothing_is_claimed():
    old = GOOD._replace(added=None, baselines=())
    assert "was not measured" in verdict(old) and "can be read" not in verdict(old)
    assert len(validation_claims(old)) == 1


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, "yes"),
        ({"ce_recovered": 0.9}, "yes"),
        ({"ce_recovered": 0.91}, "partly"),
        ({"won_back": 0.49}, "partly"),
        ({"won_back": float("nan")}, "partly"),
        ({"agreement_gain_interval": UNSURE}, "partly"),
        ({"won_back_interval": UNSURE}, "partly"),
        ({"ce_recovered": 0.95}, "partly"),  # the labels need them
        ({"ce_recovered": 0.95, "agreement_gain": 0.1}, "no"),
        ({"ce_recovered": 0.949, "agreement_gain": 0.0}, "partly"),
    ],
)
def test_the_rule_at_both_sides_of_its_thresholds(change, answer):
    assert needed(ADDED._replace(**change)) == answer


def test_claims_hold_by_their_intervals():
    better = Logistic(630, 765, 0.7, Interval(0.6, 0.8), 0.7, Interval(0.6, 0.8), 0.08, SURE)
    claims = {claim.sentence: claim for claim in validation_claims(GOOD._replace(logistic=better))}
    assert len(claims) == 6 and all(claim.holds for claim in claims.values())
    assert all(claim.n == 70 for claim in claims.values())
    worse = better._replace(accuracy=0.9, ahead=-0.12, ahead_interval=Interval(-0.2, -0.02))
    held = [claim.holds for claim in validation_claims(LINEAR._replace(logistic=worse))]
    assert held == [True, False, True, True, False, False]
    said = [one for one in cautions(GOOD._replace(logistic=worse)) if one.sign == "logistic"]
    assert len(said) == 1 and "(90% [60%, 80%])" in str(said[0]), "both in per cent"
    assert "logistic" not in signs(GOOD._replace(logistic=better))
    assert (
        validation_claims(GOOD._replace(confusion=Confusion(("a", "b"), ((60, 0), (10, 0)), ())))[0].holds
        is False
    )
