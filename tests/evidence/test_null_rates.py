"""Calls where there is nothing to find: the counts, and that what is dealt anew leaves nothing to find."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.atlas.judge.protocol import VerdictThresholds
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.null_rates import NullConfig, feature_rates, match_rates, null_rates, null_rows
from scx_core.evidence.null_rates.of_features import type_call
from scx_core.evidence.null_rates.rates import _consensus, _counted, _held, difference_call
from scx_core.evidence.studies.told_features import _between_draws, between, permuted_within_types
from scx_core.runs import to_dict
from tests.tiny import LABELS, tiny_language, tiny_table
from tests.validation.sets import random_set


@pytest.fixture(scope="module")
def effects() -> np.ndarray:
    """Two groups of 10 cells that do differ, in all 60 columns."""
    value_CX = np.random.default_rng(0).normal(1.0, 0.3, (20, 60))
    value_CX[:10] += 5.0
    return value_CX


@pytest.mark.parametrize("donors", [None, np.arange(20) % 4])
def test_dealing_anew_leaves_nothing_to_find(effects, donors):
    rng = np.random.default_rng(1)
    for call in (difference_call(effects, "genes", donors), _consensus(effects, donors)):
        shares = [(call(rng) < 0.05).mean() for _ in range(40)]
        assert 0.0 < np.mean(shares) < 0.15
    outside = [(_held(effects)(rng) < 0.05).mean() for _ in range(40)]
    assert 0.0 < np.mean(outside) < 0.15


def test_counts_by_hand():
    one = _counted("x", np.array([0, 2, 0, 2]), 10, np.array([False, True, False, False]))
    assert (one.rate, one.any_found, one.runs, one.tests) == (pytest.approx(0.1), 1, 4, 10)
    assert one.low <= one.rate <= one.high and one.any_low < 0.25 < one.any_high
    assert one.within
    assert not _counted("x", np.full(50, 3), 10, None).within


def test_every_call_is_counted_on_a_tiny_model(tmp_path):
    lm = tiny_language(tmp_path)
    coders = random_set(lm)
    coders.meta["sentences"] = to_dict(lm.sentence_config)
    tracer, cfg = make_tracer(lm, coders, tiny_table(40)), NullConfig(repeats=10, cells=6, sets=3)
    types = (LABELS[0], LABELS[1])
    found = null_rates(tracer, types, cfg=cfg)
    assert len({one.call for one in found.rates}) == len(found.rates) == 10
    assert all(0 <= one.rate <= 1 and one.runs == 10 for one in found.rates)
    header, rows = null_rows(found.to_json())
    assert len(rows) == 10 and len(rows[0]) == len(header)
    assert null_rates(tracer, types, cfg=cfg).rates == found.rates
    with pytest.raises(ScxError, match="fewer than four"):
        null_rates(make_tracer(lm, coders, tiny_table(6)), types, cfg=cfg)


def test_calls_of_features_are_counted_on_a_tiny_model(tmp_path):
    lm = tiny_language(tmp_path)
    coders = random_set(lm)
    coders.meta["sentences"] = to_dict(lm.sentence_config)
    tracer, cfg = make_tracer(lm, coders, tiny_table(60)), NullConfig(repeats=10, cells=6, donors=2)
    found = [
        *feature_rates(tracer, LABELS[0], cfg=cfg),
        *match_rates(tracer, random_set(lm, seed=5), cfg=cfg),
    ]
    assert len({one.call for one in found}) == len(found) == 10
    assert all(one.runs == 10 and 0 <= one.rate <= 1 for one in found)
    levels = {one.call: one.nominal for one in found}
    assert levels["features of a batch"] == 0.05 and levels["match by genes"] == 0.01
    assert 0 < next(one.rate for one in found if one.call == "match by weights") < 0.05


def test_a_feature_of_one_type_is_none_with_the_labels_dealt_anew():
    rng = np.random.default_rng(0)
    labels = np.repeat(["A", "B", "C", "D"], 50)
    sum_CF = np.where(labels[:, None] == "A", 5.0, 0.1) * rng.random((200, 40))
    call = type_call(sum_CF, np.full((200, 40), 10), np.full(200, 100), labels, VerdictThresholds())
    met = [(call(np.random.default_rng(seed)) == 0).mean() for seed in range(20)]
    assert np.mean(met) < 0.01
    unchanged = type(
        "Same", (), {"permutation": staticmethod(lambda numbers: numbers)}
    )  # the labels as they are
    assert (call(unchanged) == 0).all()


def test_groupings_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    value_CX, type_C = rng.normal(size=(60, 20)), rng.integers(0, 4, 60).astype(str)
    value_CX[:, 3], group_C = 1.0, rng.integers(0, 3, 60)
    drawn_PC = np.stack([permuted_within_types(group_C, type_C, rng) for _ in range(5)])
    wanted_PX = [between(value_CX, one_C, type_C) for one_C in drawn_PC]
    np.testing.assert_allclose(_between_draws(value_CX, drawn_PC, type_C), wanted_PX, atol=1e-12)
