"""An answer of `scx evidence` is found again where the same is asked of the same inputs."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

from scx_core.cli import common


class FakeTracer(SimpleNamespace):
    """What `answer_cached` looks at."""

    def about(self, config):
        return {"config": config, "model": {"name": "m", "fingerprint": self.model}}


def test_an_answer_is_found_again_and_made_anew_when_asked(tmp_path):
    made = []

    def ask(tracer, config, again=False):
        args = argparse.Namespace(runs=tmp_path, again=again)
        return common.answer_cached(
            args, "curves", tracer, config, lambda: made.append(1) or {"n": len(made)}
        )

    table = SimpleNamespace(choices="labels in cell_type")
    tracer = FakeTracer(table=table, labels=["B", "NK"], model="a")
    assert ask(tracer, {"draws": 2}) == ask(tracer, {"draws": 2}) == {"n": 1}
    assert ask(tracer, {"draws": 3}) == {"n": 2}
    others = [{"model": "b"}, {"labels": ["B"]}, {"table": SimpleNamespace(choices="another column")}]
    for n, change in enumerate(others, 3):
        assert ask(FakeTracer(**(vars(tracer) | change)), {"draws": 2}) == {"n": n}
    assert ask(tracer, {"draws": 2}, again=True) == {"n": 6}
    assert ask(tracer, {"draws": 2}) == {"n": 6}
