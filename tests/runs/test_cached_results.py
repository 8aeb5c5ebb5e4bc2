"""Results are found again by what made them, and by nothing else."""

import pytest

from scx_core.errors import ScxError
from scx_core.runs import read_json, write_json
from scx_core.runs.cached_results import cached, find_cached, key_of, list_cached


def about(**changes):
    return {
        "tool": {"name": "scX", "version": "1"},
        "versions": {"torch": "2"},
        "config": {"curves": {"name": "a", "draws": 10}},
        "data": {"name": "cells.h5ad", "fingerprint": "d"},
        "model": {"name": "m", "fingerprint": "f"},
        "seed": 0,
    } | changes


def test_a_result_is_made_once_and_found_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"value": 1.5, "rows": (1, 2)}

    first = cached("curves", about(), make, runs=tmp_path)
    assert cached("curves", about(), make, runs=tmp_path) == first == {"value": 1.5, "rows": [1, 2]}
    assert len(made) == 1
    cached("curves", about(), make, runs=tmp_path, again=True)
    assert len(made) == 2
    found = find_cached("curves", about(), runs=tmp_path)
    assert found.about["data"]["name"] == "cells.h5ad" and found.result == first
    assert list_cached(runs=tmp_path) == list_cached("curves", runs=tmp_path) == [found]
    assert find_cached("steer", about(), runs=tmp_path) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"data": {"name": "copy.h5ad", "fingerprint": "d"}}, True),
        ({"versions": {"torch": "3"}}, True),
        ({"data": {"name": "cells.h5ad", "fingerprint": "e"}}, False),
        ({"config": {"curves": {"name": "b", "draws": 10}}}, False),
        ({"seed": 1}, False),
        ({"tool": {"name": "scX", "version": "2"}}, False),
    ],
)
def test_the_key_is_of_the_content(change, same):
    assert (key_of(about()) == key_of(about(**change))) is same
    assert key_of(about()) != key_of(about(), revision=2)
    assert key_of(dict(reversed(about().items()))) == key_of(about())


def test_a_broken_file_is_made_anew(tmp_path):
    cached("curves", about(), lambda: {"value": 1}, runs=tmp_path)
    find_cached("curves", about(), runs=tmp_path).path.write_text("{")
    assert find_cached("curves", about(), runs=tmp_path) is None
    assert cached("curves", about(), lambda: {"value": 2}, runs=tmp_path) == {"value": 2}


def test_a_question_is_a_plain_name(tmp_path):
    with pytest.raises(ScxError, match="no name of a question"):
        cached("../x", about(), dict, runs=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"question": "steer"},
        {"key": "another"},
        {"result": [1]},
        {"result": "1"},
        {"about": 3},
        {"key": None},
    ],
)
def test_a_file_of_another_question_or_kind_is_made_anew(tmp_path, change):
    cached("curves", about(), lambda: {"value": 1}, runs=tmp_path)
    path = find_cached("curves", about(), runs=tmp_path).path
    write_json(path, read_json(path) | change)
    assert find_cached("curves", about(), runs=tmp_path) is None and list_cached(runs=tmp_path) == []
    assert cached("curves", about(), lambda: {"value": 2}, runs=tmp_path) == {"value": 2}
    for content in ("[]", "3", '"text"', "{}"):
        path.write_text(content)
        assert find_cached("curves", about(), runs=tmp_path) is None
