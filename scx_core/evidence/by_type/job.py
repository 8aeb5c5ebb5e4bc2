"""The measurement of one type, or of the largest, as a job: it outlives the page that asked for it, can be
stopped, and goes on where it was; what it measures lies where everybody finds it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from scx_core.cells import open_cells
from scx_core.circuits import Tracer, make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.answers import feature_answers
from scx_core.evidence.by_type.measure import (
    FOLDER,
    TypesConfig,
    evidence_file,
    evidence_of_types,
    largest,
    siblings,
)
from scx_core.language import load_language
from scx_core.runs import (
    Progress,
    RunFolder,
    find_job,
    from_dict,
    launch_job,
    list_runs,
    option,
    runs_root,
    silent,
    to_dict,
    work_on,
)
from scx_core.runs.background import JOBS
from scx_core.runs.jobs import RUN
from scx_core.runs.progress import nested
from scx_core.transcoders import load_set
from scx_core.transcoders.check import opened_as_is
from scx_core.transcoders.sources import Sources

ARGV = ("evidence", "types", "--run", RUN)
STEPS = 10  # parts of one type: seven of its record, three answers on features


@dataclass(frozen=True)
class EvidenceJob(Sources):
    """What to open, and which type of it to measure."""

    label: str = option("", "Cell type (empty: the largest, as many as `types` says)")
    types: TypesConfig = field(default_factory=TypesConfig)


def job_of(tracer: Tracer, label: str, cfg: TypesConfig, root: Path | None = None) -> RunFolder | None:
    """The job that measures or measured this type (empty: the largest), None where there never was one."""
    return find_job(FOLDER, _name(tracer, label, cfg, root), root)


def settings_of_last(job: EvidenceJob, root: Path | None = None) -> TypesConfig | None:
    """The settings of the newest job on the same cells, model and set, so that its results are found again;
    None where there never was one."""
    sources = ("data", "model", "transcoders", "as_is", "cells")
    wanted = {name: to_dict(job)[name] for name in sources}
    runs = list_runs((root or runs_root()) / FOLDER / JOBS)
    for run in sorted(runs, key=lambda one: -one.path.stat().st_mtime_ns):
        with suppress(ScxError, KeyError, TypeError):
            if {name: run.config[name] for name in sources} == wanted:
                return from_dict(TypesConfig, run.config["types"])
    return None


def launch_evidence(job: EvidenceJob, tracer: Tracer, root: Path | None = None) -> RunFolder:
    """Start measuring in the background; a job that runs already goes on as it is.

    Raises ScxError for a set that was never saved.
    """
    if not tracer.transcoders.fingerprint:
        raise ScxError("This set was never saved, so what is measured could not be found again.", "Save it.")
    return launch_job(FOLDER, _name(tracer, job.label, job.types, root), job, ARGV, root=root)


def run_job(run: RunFolder, progress: Progress = silent) -> list[str]:
    """Measure what the job says; the types that were. Raises ScxError where its parts cannot be opened or do
    not fit, and KeyboardInterrupt when it was asked to stop; the job's status says so then."""
    job = from_dict(EvidenceJob, run.config)
    root = run.path.parent.parent.parent  # RUNS/evidence/jobs/NAME

    def measure(tell: Progress) -> list[str]:
        tracer = _opened(job, root)
        labels = [job.label] if job.label else largest(tracer, job.types)
        for done, label in enumerate(labels):
            of_type = nested(tell, done, len(labels), steps=1000)
            evidence_of_types(
                tracer, [label], job.types, root=root, kept=False, progress=_share(of_type, 0, 7)
            )
            feature_answers(tracer, label, root, _share(of_type, 7, 10))
        return labels

    return work_on(run, measure, progress)


def _share(progress: Progress, first: int, last: int) -> Progress:
    """What fills the steps from the first to the last of a type."""

    def tell(done: int, total: int, message: str = "") -> None:
        share = done / max(1, total)
        progress(int(1000 * (first + (last - first) * share)), 1000 * STEPS, message)

    return tell


def _opened(job: EvidenceJob, root: Path) -> Tracer:
    """With an atlas' names of the features, where there is one."""
    from scx_core.atlas.feature_naming import name_book

    table, lm = open_cells(job.data, job.cells), load_language(job.model, job.device)
    coders = load_set(job.transcoders, lm.device, lm.dtype)
    coders = opened_as_is(lm, coders) if job.as_is else coders
    made_from = {"model": lm, "transcoders": coders, "data": table}
    return make_tracer(lm, coders, table, name_book(made_from, root))


def _name(tracer: Tracer, label: str, cfg: TypesConfig, root: Path | None) -> str:
    """By the identity of the record that it makes; with all types that of none, and their number."""
    name = evidence_file(tracer, label, cfg, siblings(tracer), root).stem
    return name if label else f"largest-{cfg.types}-{name.rpartition('-')[2]}"
