"""Warnings and verdict: each failure sign alone, at both sides of its threshold."""

from __future__ import annotations

import pytest

from scx_core.validation import PAPER, ClassRow, Confusion, LayerRow, Validation, cautions, verdict

ROW = LayerRow(0, 2.0, 3.0, 0.01, 0.99, 0.02, 15.0, 0.02, 0.2, 0.8)
CLASS = ClassRow(1000, 2.0, 2.1, 12.0, 9.0, 0.99, 0.01, 15.0)
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
