"""The report of a type's evidence for print, made once for all who ask for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.circuits import Tracer
from scx_core.circuits.schema import read_object
from scx_core.evidence.by_type.measure import TypesConfig, evidence_file, siblings
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.figures.report import document_of, report_pdf
from scx_core.runs import Progress, from_dict, read_json, to_dict, write_atomic
from scx_core.runs.cached_results import key_of
from scx_core.runs.files import to_json_text
from scx_core.tasks.answer_shapes import Kept
from scx_core.tasks.sources import Opened
from scx_core.tasks.task import Task, tracer_task
from scx_core.transcoders.sources import Sources
from scx_core.validation import Validation, validation_beside

REPORTS = "reports"  # folder inside the runs folder


class Report(NamedTuple):
    """A report that was made: the name of its file in the folder of reports, and its size in bytes."""

    file: str
    bytes: int


def report(opened: Opened, asked: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """`asked`: label, cfg, further (answers of other questions that count), and marks of the record and the
    validation as they were then, which decide only about the name. Raises ScxError."""
    tracer, label = opened.tracer, asked["label"]
    path = evidence_file(tracer, label, from_dict(TypesConfig, asked["cfg"]), siblings(tracer), opened.root)
    found = TypeEvidence.from_json(read_json(path), path.name)._replace(further=asked["further"])
    progress(0, 1, "drawing curves and tables")
    data = report_pdf(document_of(found, validation_of(tracer)))
    name = f"{key_of(tracer.about({'asked': asked}))}.pdf"
    (opened.root / REPORTS).mkdir(parents=True, exist_ok=True)
    write_atomic(opened.root / REPORTS / name, data)
    return {"kept": name, "bytes": len(data)}


def read_report(record: Mapping[str, Any]) -> Report:
    """What `report` gave. Raises Misfit."""
    found = read_object(Kept, record)
    return Report(Path(found["kept"]).name, found["bytes"])


def report_task(sources: Sources, tracer: Tracer, found: TypeEvidence, cfg: TypesConfig) -> Task:
    """The report of a record, another one as soon as record, answers that count or validation are. Raises
    ScxError for a set that was never saved."""
    known = validation_of(tracer)
    asked = {
        "label": found.label,
        "cfg": to_dict(cfg),
        "further": found.further,
        "record": _mark([found.provenance, found.seconds]),
        "validation": _mark(None if known is None else known.to_json()),
    }
    return tracer_task("report", f"Report of {found.label}, PDF", sources, tracer, asked)


def validation_of(tracer: Tracer) -> Validation | None:
    """What lies beside the set about these very cells."""
    coders = tracer.transcoders
    marks = {"data": tracer.table.fingerprint, "model": tracer.lm.fingerprint}
    return validation_beside(coders.folder, marks | {"transcoders": coders.fingerprint})


def _mark(content: Any) -> str:
    return hashlib.sha256(to_json_text(content).encode("utf-8", "replace")).hexdigest()[:16]
