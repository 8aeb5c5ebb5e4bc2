"""The job that measures evidence: how it ends is written down, a stop is heeded, and it goes on."""

from __future__ import annotations

import os
import signal

import pytest

from scx_core.errors import ScxError
from scx_core.evidence.by_type import job
from scx_core.evidence.by_type.job import EvidenceJob, run_job, settings_of_last
from scx_core.evidence.by_type.measure import TypesConfig
from scx_core.runs import RunFolder, to_dict

CFG = TypesConfig(cells=5)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A job that opens nothing; what its parts do, a test says."""
    monkeypatch.setattr(job, "_opened", lambda asked, root: "the tracer")
    monkeypatch.setattr(
        job, "feature_answers", lambda tracer, label, root, tell: tell(1, 2, f"{label}: steer")
    )
    asked = EvidenceJob(data="cells.h5ad", label="B", types=CFG)
    return RunFolder.create(tmp_path / "evidence" / "jobs", "evidence", asked, "B-1", argv=job.ARGV)


def _measures(monkeypatch, what) -> list[str]:
    """Each type that is measured, in order; `what(tell)` is what measuring one does."""
    seen: list[str] = []

    def measure(tracer, labels, cfg, *, root, kept, progress):
        assert (tracer, cfg, kept) == ("the tracer", CFG, False)
        seen.extend(labels)
        what(progress)

    monkeypatch.setattr(job, "evidence_of_types", measure)
    return seen


def test_a_job_measures_its_type_or_the_largest_and_never_runs_backwards(run, tmp_path, monkeypatch):
    told: list[float] = []
    seen = _measures(monkeypatch, lambda tell: [tell(done, 4, "part") for done in (0, 3, 1, 4)])
    write = run.write_status
    monkeypatch.setattr(run, "write_status", lambda state, done, total, *a, **k: (
        told.append(done / total), write(state, done, total, *a, **k)))  # fmt: skip
    assert run_job(run) == seen == ["B"]
    assert run.status().state == "done" and told == sorted(told)
    monkeypatch.setattr(job, "largest", lambda tracer, cfg: ["B", "NK"])
    run.update(config=to_dict(EvidenceJob(data="cells.h5ad", types=CFG)))
    assert run_job(run) == ["B", "NK"] and seen == ["B", "B", "NK"]


def test_a_stop_is_heeded_at_the_next_step_and_written_down(run, monkeypatch):
    def measure(tell):
        tell(1, 4, "part")
        os.kill(os.getpid(), signal.SIGTERM)
        tell(2, 4, "part")
        pytest.fail("it went on")

    _measures(monkeypatch, measure)
    with pytest.raises(KeyboardInterrupt):
        run_job(run)
    assert run.status().state == "stopped"
    _measures(monkeypatch, lambda tell: tell(4, 4, "part"))
    assert run_job(run) == ["B"] and run.status().state == "done"


def test_what_is_wrong_is_said_in_its_status(run, monkeypatch):
    def refuse(tell):
        raise ScxError("There are too few cells.", "Take another type.")

    _measures(monkeypatch, refuse)
    with pytest.raises(ScxError):
        run_job(run)
    status = run.status()
    assert status.state == "failed" and "Take another type." in status.error


def test_the_settings_of_the_last_job_on_these_cells_are_found(run, tmp_path):
    same, other = EvidenceJob(data="cells.h5ad"), EvidenceJob(data="other.h5ad")
    assert settings_of_last(same, tmp_path) == CFG
    assert settings_of_last(other, tmp_path) is None
