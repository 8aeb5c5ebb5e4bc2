"""Answers of other questions: read where they belong, refused in one line or left out where they do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scx_core.errors import ScxError
from scx_core.evidence.by_type.further import Answer, answer_in, answers_of, kept_answers
from scx_core.evidence.by_type.measure import with_further
from scx_core.evidence.stability import StabilityConfig, stability
from scx_core.runs import cached
from tests.builders.evidence import LABEL, OTHER, tiny_evidence, tiny_tracer


@pytest.fixture(scope="module")
def tracer():
    """The tiny one, as if its set lay on disk."""
    made = tiny_tracer()
    return replace(made, transcoders=replace(made.transcoders, fingerprint="of this set"))


@pytest.fixture(scope="module")
def transfer(tracer):
    one = {"what": "genes", "label": LABEL, "first": "here", "second": "there", "shared": 9, "top": 20,
           "expected": {"names of the same level": 2.0}, "p": {"names of the same level": 0.004},
           "n_first": 20, "n_second": 12}  # fmt: skip
    worse = one | {"second": "elsewhere", "p": {"names of the same level": 0.5}}
    plain = one | {"what": "DE genes", "shared": 7}
    return {"overlaps": [worse, one, plain], "accuracy": [], "provenance": tracer.about({})}


@pytest.fixture(scope="module")
def varied(tracer):
    few = StabilityConfig(cells=6, splits=2, ties=1, resamples=20, draws=20)
    return stability(tracer, LABEL, cfg=few).to_json()


def _written(folder: Path, data, name: str = "answer.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_another_study_makes_level_5(tmp_path, tracer, transfer):
    held = answer_in(_written(tmp_path, transfer), tracer, LABEL)
    assert held is not None and (held.question, held.source) == ("transfer", "answer.json")
    assert held.found["second"] == "there" and held.found["p"] == pytest.approx(0.008)
    record = with_further(tiny_evidence().of(LABEL), [held])
    level = record.ladder.levels[4]
    assert level.status == "reached" and "differential expression, without a model, shares 7" in level.words
    assert answer_in(_written(tmp_path, transfer), tracer, OTHER) is None


@pytest.mark.parametrize(
    ("part", "words"), [("model", "another model"), ("transcoders", "another set of transcoders")]
)
def test_what_does_not_belong_is_refused_in_one_line(tmp_path, tracer, transfer, part, words):
    about = transfer["provenance"]
    other = transfer | {"provenance": about | {part: about[part] | {"fingerprint": "x"}}}
    with pytest.raises(ScxError, match=rf"answer\.json is about {words}") as refused:
        answer_in(_written(tmp_path, other), tracer, LABEL)
    assert "\n" not in str(refused.value)


def test_other_cells_are_refused_where_cells_decide(tmp_path, tracer, varied):
    assert answer_in(_written(tmp_path, {"types": [varied]}), tracer, LABEL) is not None
    about = varied["provenance"]
    other = varied | {"provenance": about | {"data": about["data"] | {"fingerprint": "x"}}}
    with pytest.raises(ScxError, match="is about other cells"):
        answer_in(_written(tmp_path, other), tracer, LABEL)


def test_what_is_no_answer_is_refused(tmp_path, tracer, transfer):
    for data in (
        {},
        [],
        3,
        {"types": []},
        {"types": [3]},
        transfer | {"provenance": {}},
        {"question": "steer"},
    ):
        with pytest.raises(ScxError, match=r"answer\.json"):
            answer_in(_written(tmp_path, data), tracer, LABEL)


def test_what_was_varied_further_stands_beside_and_never_in_the_place_of_the_record(tracer, varied):
    record = tiny_evidence().of(LABEL)
    parts = [{"what": "model seeds", "jaccard": {"mean": 0.1, "low": 0.0, "high": 0.2}, "chance": 0.1, "n": 4,
              "comparisons": 1, "units": "cells", "why": ""}]  # fmt: skip
    own = parts[0] | {"what": "cells"}
    held = with_further(record, [Answer("stability", "two", "a.json", {"parts": [*parts, own]})])
    level = held.ladder.levels[3]
    assert level.status == "not reached" and "model seeds 0.10" in level.words
    assert level.words.count("cells") == record.ladder.levels[3].words.count("cells")


def test_prompts_that_the_model_never_read_are_said_and_do_not_count(tmp_path, tracer, varied):
    axis = varied["axes"][0] | {"name": "prompts", "words": "c2s-1; another"}
    bad = [row | {"value": 0.0, "low": 0.0, "high": 0.1} for row in axis["figures"]]
    changed = varied | {"axes": [axis | {"figures": bad}]}
    record = tiny_evidence().of(LABEL)
    before = record.ladder.levels[3].status
    held = answer_in(_written(tmp_path, changed), tracer, LABEL)
    level = with_further(record, [held]).ladder.levels[3]
    assert level.status == before and "prompts 0.00" in level.words and "not counted" in level.words
    own = axis | {"figures": bad, "words": tracer.lm.sentence_config.prompt}
    held = answer_in(_written(tmp_path, varied | {"axes": [own]}), tracer, LABEL)
    assert with_further(record, [held]).ladder.levels[3].status == "not reached"


def test_the_runs_folder_gives_what_belongs_and_hides_nothing_else(tmp_path, tracer, transfer, varied):
    other = transfer | {"provenance": transfer["provenance"] | {"model": {"fingerprint": "x"}}}
    for question, result in (("transfer", transfer), ("transfer", other), ("stability", varied)):
        cached(question, result["provenance"], lambda result=result: result, runs=tmp_path)
    (tmp_path / "results" / "transfer" / "0.json").write_text("{", encoding="utf-8")
    assert [one.question for one in kept_answers(tracer, LABEL, tmp_path)] == ["transfer", "stability"]
    assert [one.question for one in kept_answers(tracer, OTHER, tmp_path)] == []
    named = _written(tmp_path, transfer)
    assert answers_of(tracer, LABEL, [named], tmp_path)[0].source == "answer.json"
    assert len(answers_of(tracer, LABEL, [named], tmp_path)) == 2
    assert len(answers_of(tracer, LABEL, [named], tmp_path, kept=False)) == 1
