"""Answers on disk, damaged at every place in every way: each is read as it was, or refused by the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from scx_core.circuits import ConsensusConfig, TraceConfig
from scx_core.circuits.schema import Misfit
from scx_core.errors import ScxError
from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.runs import RunFolder, silent, to_dict
from scx_core.runs.files import to_json_text
from scx_core.tasks import Opened, Sources, makers
from scx_core.tasks.makers import SO_FAR
from scx_core.tasks.makers_of_features import match, read_match
from scx_core.tasks.makers_of_reports import read_report
from scx_core.tasks.makers_of_training import read_trial, trial
from scx_core.training import TrainConfig
from scx_core.training.config import TranscoderConfig
from scx_core.validation.result import plain
from tests.builders.damage import check_every_damage

LABEL, OTHER, ROW = "CD19+ B", "Dendritic", 3


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Opened:
    return Opened(Sources(), tmp_path_factory.mktemp("no atlases"))


def written(record: Any) -> Any:
    """As it lies on disk."""
    return json.loads(to_json_text(record))


def test_the_smallest_circuit(opened):
    few = SmallestConfig(search_cells=2, unseen_cells=2, reference_cells=4, gradient_cells=1, compare=False,
                         nodes=64, draws=1)  # fmt: skip
    asked = {"label": LABEL, "answer": LABEL, "against": None, "row": None, "trace": to_dict(TraceConfig())}
    record = written(makers.smallest_circuit(opened, asked | {"cfg": to_dict(few)}, silent))
    assert check_every_damage(record, makers.read_smallest, plain, Misfit) > 300
    with pytest.raises(Misfit, match="sets.ours.size is not a whole number"):
        makers.read_smallest(record | {"sets": {"ours": record["sets"]["ours"] | {"size": "3"}}})
    with pytest.raises(Misfit, match="logits lacks empty"):
        makers.read_smallest(record | {"logits": {"full": 1.0}})


def test_rankings(opened):
    cfg = RankingConfig(genes=3, cells=2, measured=2, draws=1)
    record = written(plain(rank_genes_of(opened.tracer, [LABEL], cfg).types[0]))
    assert check_every_damage(record, makers.read_rankings, plain, Misfit) > 300
    with pytest.raises(Misfit, match="rankings is not of circuit, random"):
        makers.read_rankings(record | {"rankings": record["rankings"][1:]})


def test_paths(opened):
    asked = {"answer": LABEL, "against": None, "row": ROW, "trace": to_dict(TraceConfig())}
    record = written(makers.paths(opened, asked, silent))
    del record["account"]  # it is counted from the steps, not read
    del record["steps"][40:]

    def again(found: Any) -> Any:
        return {key: value for key, value in plain(found.to_json()).items() if key != "account"}

    assert check_every_damage(record, _read_paths, again, Misfit) > 150
    for parent in (0, 5, -1):  # of the first step, itself, and of another one none
        steps = [dict(step) for step in record["steps"]]
        steps[0 if parent == 0 else 5]["parent"] = parent
        with pytest.raises(Misfit, match=r"steps\[\d\].parent is no step before it"):
            makers.read_paths(record | {"steps": steps})


def _read_paths(record: Any) -> Any:
    """The settings have a reader of their own, with defaults and its own words."""
    try:
        found = makers.read_paths(record)
    except ScxError as error:
        raise Misfit(str(error)) from error
    if to_dict(found.config) != record["config"]:
        raise Misfit("is filled with defaults")
    return found


def test_a_match_of_two_sets(opened):
    asked = {"other": "embedded", "fingerprint": opened.coders.fingerprint, "cfg": {"cells": 4}}
    record = written(match(opened, asked, silent))

    def again(found: Any) -> Any:
        pairs, shares = (frame.to_dict("list") for frame in (found.pairs, found.shares))
        return {"pairs": pairs, "shares": shares, "skipped": found.skipped, "provenance": found.provenance}

    assert check_every_damage(record, read_match, again, Misfit) > 100
    short = {name: column[1:] if name == "score" else column for name, column in record["pairs"].items()}
    with pytest.raises(Misfit, match="pairs has columns of different lengths"):
        read_match(record | {"pairs": short})


def test_a_trial(opened):
    asked = {"transcoder": to_dict(TranscoderConfig()), "train": to_dict(TrainConfig()), "n_cells": 50}
    record = written(trial(opened, asked, silent))
    assert check_every_damage(record, read_trial, plain, Misfit) > 50
    with pytest.raises(Misfit, match="lacks model"):
        read_trial({"one": record["transcoders"], "two": record["transcoders"]})
    with pytest.raises(Misfit, match="is not an object of parts"):
        read_trial({})


@pytest.mark.parametrize(
    ("record", "read", "again"),
    [
        ({"kept": "a.pdf", "bytes": 12}, read_report, lambda one: {"kept": one.file, "bytes": one.bytes}),
        ({"answers": ["B", ""]}, lambda one: makers.read_answers(one, 2), lambda one: {"answers": one}),
        ({"kept": "a.html", "circuits": ["B"], "evidence": [], "atlas": True}, makers.read_shared, dict),
    ],
)  # fmt: skip
def test_files_and_answers(record: Any, read: Callable[[Any], Any], again: Callable[[Any], Any]) -> None:
    assert check_every_damage(record, read, again, Misfit) > 15


def test_a_circuit_and_a_difference(opened):
    about: dict[str, Any] = {"label": LABEL, "answer": LABEL, "against": None, "row": None, "rows": None}
    about |= {"trace": to_dict(TraceConfig(nodes=2)), "consensus": to_dict(ConsensusConfig(cells=2))}
    found = written(makers.circuit(opened, about | {"less": OTHER}, silent))
    assert written(makers.read_circuit(found).to_json()) == found
    for spoiled in (
        found | {"names": "AB"},
        found | {"names": ["A"]},
        found | {"names": [1, "B"]},
        found | {"first": found["difference"]},
        found | {"first": []},
        {key: value for key, value in found.items() if key != "second"},
        {"circuit": []},
        {"circuit": found},
        [found],
        "circuit",
        None,
    ):
        with pytest.raises(ScxError, match=r"^The answer is no|holds no circuit|states no schema_version"):
            makers.read_circuit(spoiled)


@pytest.mark.parametrize(
    "record", [[], {}, {"cells": "3", "edges": 0, "genes": []}, {"cells": 3, "edges": 0, "genes": [{}]}]
)
def test_what_is_known_so_far_is_not_said_where_it_is_damaged(tmp_path, record):
    run = RunFolder.create(tmp_path, "circuit", {})
    (run.path / SO_FAR).write_text(json.dumps(record))
    assert makers.so_far(run) is None


@pytest.mark.parametrize("spoil", [lambda result: [], lambda result: result | {"n": "2"}])
def test_damaged_rankings_of_a_type_are_made_anew(opened, tmp_path, spoil):
    cfg = RankingConfig(genes=3, cells=2, measured=2, draws=1)

    def ask() -> Any:
        return plain(rank_genes_of(opened.tracer, [LABEL], cfg, kept=True, runs=tmp_path).types[0])

    right = ask()
    (path,) = (tmp_path / "results" / "rankings-of-type").glob("*.json")
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"result": spoil(record["result"])}))
    assert ask() == right
    assert json.loads(path.read_bytes())["result"] == record["result"]
