"""Calls where there is nothing to find: the counts, and that what is dealt anew leaves nothing to find."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.null_rates import (
    NullConfig,
    _consensus,
    _counted,
    _difference,
    _held,
    null_rates,
    null_rows,
)
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
    for call in (_difference(effects, "genes", donors), _consensus(effects, donors)):
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
