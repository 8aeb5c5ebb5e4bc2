"""What must not matter is changed, one thing at a time, and what stays alike is held against chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scx_core.circuits import make_tracer
from scx_core.circuits.many_cells import two_steps
from scx_core.errors import ScxError
from scx_core.evidence.stability import Reading, StabilityConfig, stability, stability_rows
from scx_core.runs import to_dict
from tests.tiny import LABELS, tiny_language, tiny_table
from tests.validation.sets import random_set

PROMPT = "Genes of a {organism} cell: {cell_sentence}. It is:"
CFG = StabilityConfig(cells=8, splits=4, ties=1, resamples=20, draws=40, matched_on=10, nodes=40)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("tiny"))
    coders = random_set(lm)
    coders.meta["sentences"] = to_dict(lm.sentence_config)
    return make_tracer(lm, coders, tiny_table(40))


@pytest.fixture(scope="module")
def found(tracer):
    other = make_tracer(tracer.lm, tracer.transcoders, tracer.table)
    return stability(tracer, LABELS[0], sets=[tracer.transcoders], models=[other], cfg=CFG)


@pytest.mark.parametrize("name", ["transcoder seeds", "model seeds"])
def test_the_same_set_and_the_same_model_are_the_same(found, name):
    axis = {one.name: one for one in found.axes}[name]
    for figure in ("top 10", "top 20", "spearman"):
        genes = axis.of("genes", figure)
        assert (genes.value, genes.low, genes.high) == pytest.approx((1.0, 1.0, 1.0))
        assert genes.chance < 1.0
    assert axis.of("genes", "spearman").q < 0.05


def test_halves_are_less_alike_than_the_same_cells(found):
    halves = found.axes[0]
    assert (halves.name, halves.pairs, halves.interval) == ("cells", 4, "95% of splits")
    for one in halves.figures:
        assert one.low <= one.value <= one.high and one.value <= 1.0
    assert halves.of("genes", "spearman").value < 1.0


def test_what_was_not_changed_is_said(found, tracer):
    assert set(found.left_out) == {"donors", "prompts"}
    header, rows = stability_rows(found.to_json())
    assert len(rows) == len(found.axes) == 4 and len(rows[0]) == len(header)
    donors = np.array(["a", "b"] * (tracer.table.n_cells // 2), dtype=object)
    owned = replace(tracer, table=replace(tracer.table, donors=donors))
    axis = stability(owned, LABELS[0], cfg=replace(CFG, ties=0)).axes[1]
    assert (axis.name, axis.pairs, axis.interval) == ("donors", 2, "least, most")


def test_genes_alone_cost_no_circuit_and_are_the_same(found, tracer, monkeypatch):
    monkeypatch.setattr(type(tracer), "merged", None)  # calling it would fail
    alone = stability(tracer, LABELS[0], kinds=("genes",), cfg=replace(CFG, varied=4))
    for figure in ("top 10", "top 20", "spearman"):
        one, other = (each.axes[0].of("genes", figure) for each in (alone, found))
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert [axis.n for axis in alone.axes] == [8, 4]
    assert {one.kind for axis in alone.axes for one in axis.figures} == {"genes"}


def test_chance_deals_within_strata_only():
    reading = Reading(tuple("abcdef"), np.arange(6.0)[None], np.array([0, 1, 0, 1, 0, 1]))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        dealt = reading.dealt(rng)
        assert sorted(dealt.names) == list("abcdef")
        assert {dealt.names[x] for x in (0, 2, 4)} == set("ace")
        seen.add(dealt.names[0])
    assert seen == set("ace")


def test_other_cells_are_refused(tracer):
    other = replace(tracer, table=replace(tracer.table, fingerprint="another"))
    with pytest.raises(ScxError, match="not the same cells"):
        stability(tracer, LABELS[0], models=[other], cfg=replace(CFG, ties=0))


@pytest.mark.parametrize("stopped_after", [3, 11, 18, 24])
def test_a_stopped_study_of_a_large_model_goes_on_and_gives_the_same(
    tmp_path, tracer, monkeypatch, stopped_after
):
    """Of a large model every cell is kept, under each order of ties and each wording: none is made again."""
    monkeypatch.setattr(two_steps, "LARGE", 0)
    made, ask = [], two_steps.frozen_for
    monkeypatch.setattr(two_steps, "frozen_for", lambda *parts: made.append(parts) or ask(*parts))
    asked = {"prompts": [PROMPT], "cfg": replace(CFG, cells=4, splits=2, draws=20)}

    def study(place, **more):
        monkeypatch.setenv("SCX_RUNS", str(tmp_path / place))
        return stability(tracer, LABELS[0], **asked, **more).to_json()

    whole = study("whole")
    in_all = len(made)
    assert in_all == 3 * 2 * 4  # as they are, other ties, another wording; two steps; four cells
    made.clear()

    def stop(*parts):
        made.append(parts)
        if len(made) == stopped_after:
            raise KeyboardInterrupt
        return ask(*parts)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(two_steps, "frozen_for", stop)
        study("again")
    assert study("again") == whole
    assert len(made) == in_all + 1  # the cell in which it was stopped is begun again
