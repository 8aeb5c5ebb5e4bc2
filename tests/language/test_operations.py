"""How fast a model is here: a slow first pass does not stand for the others."""

from types import SimpleNamespace

import pytest

from scx_core.language.numerics import operations as counted
from tests.tiny import tiny_language


@pytest.mark.parametrize(
    ("taken", "fastest"),
    [((0.3, 0.02, 0.3), 0.02), ((9.0,), 9.0), ((0.05,) * counted.TRIALS, 0.05)],
    ids=["slow at first", "long", "always alike"],
)
def test_the_fastest_of_a_few_passes_counts(taken, fastest, tmp_path, monkeypatch):
    lm, text = tiny_language(tmp_path), [5, 6, 7, 8]
    clock = iter([0.0, 0.0, *(edge for seconds in taken for edge in (0.0, seconds))])
    monkeypatch.setattr(counted, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    rate = counted.speed(lm, [text])
    assert next(clock, None) is None  # no pass more, and none fewer
    assert rate == pytest.approx(counted.operations(lm, 4).blocks(lm.facts.n_layers) * 4 / fastest)
