"""A task's answer is what the same question gives here; who asks again finds it; what changed is refused."""

from __future__ import annotations

import pytest

import scx_core as scx
from scx_core.circuits import ConsensusConfig, TraceConfig
from scx_core.circuits.difference import Difference, compare_types
from scx_core.circuits.schema import Misfit
from scx_core.errors import ScxError
from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from scx_core.runs import RunFolder, to_dict
from scx_core.tasks import Opened, Sources, answer_of, estimates, job_of_task, launch_task, makers, run_task
from scx_core.tasks.task import PLACE, tracer_task
from scx_core.validation.result import plain

LABEL, OTHER, CELLS = "CD19+ B", "Dendritic", 3


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Opened:
    return Opened(Sources(), tmp_path_factory.mktemp("no atlases"))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Jobs are done in this process."""
    monkeypatch.setattr("scx_core.runs.background.start", run_task)


def circuit_asked(**changes):
    found = {"label": LABEL, "answer": LABEL, "against": None, "row": None, "less": None, "rows": None}
    trace, consensus = to_dict(TraceConfig()), to_dict(ConsensusConfig(cells=CELLS))
    return found | {"trace": trace, "consensus": consensus} | changes


def test_a_consensus_is_found_again_and_is_the_same(opened, tmp_path):
    task = tracer_task("circuit", "B cells", Sources(), opened.tracer, circuit_asked())
    assert answer_of(task, tmp_path) is None and job_of_task(task, tmp_path) is None
    run = launch_task(task, tmp_path)
    assert run.status().state == "done" and run.status().more["seconds"] >= 0
    assert run.path == tmp_path / PLACE / "jobs" / task.name
    again = tracer_task("circuit", "another title", Sources(), scx.tl.tracer("embedded"), circuit_asked())
    found = answer_of(again, tmp_path)
    assert found is not None
    direct = opened.tracer.consensus(LABEL, answer=LABEL, cfg=ConsensusConfig(cells=CELLS))
    kept = makers.read_circuit(found.result)
    assert kept.genes == direct.genes and kept.edges == direct.edges and kept.target == direct.target
    other = tracer_task("circuit", "", Sources(), opened.tracer, circuit_asked(answer=OTHER))
    assert other.name != task.name and answer_of(other, tmp_path) is None


def test_a_difference_and_its_sides(opened):
    record = makers.circuit(opened, circuit_asked(less=OTHER), lambda *told: None)
    kept = makers.read_circuit(record)
    direct = compare_types(opened.tracer, LABEL, OTHER, cfg=ConsensusConfig(cells=CELLS))
    assert isinstance(kept, Difference) and kept == direct


def test_results_are_read_back_as_they_were(opened):
    few = SmallestConfig(search_cells=2, unseen_cells=2, reference_cells=4, gradient_cells=1, compare=False,
                         nodes=64, draws=1)  # fmt: skip
    asked = {"label": LABEL, "answer": LABEL, "against": None, "row": None, "trace": to_dict(TraceConfig())}
    record = makers.smallest_circuit(opened, asked | {"cfg": to_dict(few)}, lambda *told: None)
    found = makers.read_smallest(record)
    assert found.nodes and plain(found) == record
    cfg = RankingConfig(genes=3, cells=2, measured=2, draws=1)
    one = rank_genes_of(opened.tracer, [LABEL], cfg).types[0]
    assert plain(makers.read_rankings(plain(one))) == plain(one)
    assert makers.read_rankings(plain(one)).rankings[0].verdict == one.rankings[0].verdict
    with pytest.raises(Misfit, match="it lacks added, ahead, cells"):
        makers.read_smallest({"scope": "type"})


def test_what_was_changed_meanwhile_is_not_answered(opened, tmp_path):
    task = tracer_task("circuit", "B cells", Sources(), opened.tracer, circuit_asked())
    about = task.about | {"model": {"name": "x", "fingerprint": "another"}}
    with pytest.raises(ScxError, match="not what they were"):
        launch_task(task._replace(about=about), tmp_path)
    run = job_of_task(task._replace(about=about), tmp_path)
    assert run is not None and run.status().state == "failed"


def test_an_unknown_kind_is_said(tmp_path):
    config = {"title": "", "asked": {}, "about": {}, "goes_on": False}
    with pytest.raises(ScxError, match="not known"):
        run_task(RunFolder.create(tmp_path, "witchcraft", config))


@pytest.mark.parametrize(
    "change",
    [{"asked": []}, {"asked": None}, {"about": "x"}, {"asked": {"label": OTHER}}, {"about": {"config": {}}}],
)
def test_a_job_whose_file_was_edited_is_refused_and_answers_nothing(opened, tmp_path, monkeypatch, change):
    task = tracer_task("circuit", "B cells", Sources(), opened.tracer, circuit_asked())
    monkeypatch.setattr("scx_core.runs.background.start", lambda run: None)
    run = launch_task(task, tmp_path)
    for edited in (run.config | change, {key: run.config[key] for key in run.config if key not in change}):
        run.update(config=edited)
        with pytest.raises(ScxError, match=r"run\.json asks for something else than when it was made"):
            run_task(RunFolder.open(run.path))
        assert run.status().state == "failed" and answer_of(task, tmp_path) is None


@pytest.mark.parametrize("seconds", ["12", True, [], None, {"a": 1}])
def test_an_edited_promise_says_nothing_of_this_machine(tmp_path, seconds):
    run = RunFolder.create(tmp_path / PLACE / "jobs", "circuit", {"seconds": seconds})
    with run.lock():
        run.write_status("done", 1, 1, seconds=2.0)
    assert estimates.here("circuit", 10.0, tmp_path) == 10.0
