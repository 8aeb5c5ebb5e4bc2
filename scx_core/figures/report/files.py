"""Writes a report: the page or the PDF that was asked for, its tables and its record beside it."""

from __future__ import annotations

from pathlib import Path

from scx_core.errors import ScxError
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.figures.report.document import document_of
from scx_core.figures.report.files_of_tables import table_bytes
from scx_core.figures.report.page import report_page
from scx_core.figures.report.print_out import report_pdf
from scx_core.runs.files import to_json_text, write_atomic
from scx_core.validation import Validation

ENDINGS = (".html", ".pdf")


def report_files(found: TypeEvidence, validation: Validation | None = None) -> dict[str, bytes]:
    """Everything of a report by file name: report.html, report.pdf, tables/NAME.csv, evidence.json."""
    document = document_of(found, validation)
    made = {
        "report.html": report_page(document).encode("utf-8"),
        "report.pdf": report_pdf(document),
        "evidence.json": _record(found),
    }
    return made | {f"tables/{table.name}.csv": table_bytes(table) for table in document.tables}


def write_report(found: TypeEvidence, out: Path | str, validation: Validation | None = None) -> list[Path]:
    """Write `out` (.html or .pdf) with a folder OUT_tables beside it: a CSV a table, and evidence.json.

    Raises ScxError for another ending, or a place that cannot be written to.
    """
    out = Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise ScxError(
            f"{out.name[:80]!r} is no report that can be written.", "Give a name on .html or .pdf."
        )
    document = document_of(found, validation)
    content = report_pdf(document) if out.suffix.lower() == ".pdf" else report_page(document).encode("utf-8")
    folder = out.with_name(f"{out.stem}_tables")
    made = {out: content, folder / "evidence.json": _record(found)}
    made |= {folder / f"{table.name}.csv": table_bytes(table) for table in document.tables}
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in made.items():
        write_atomic(path, data)
    return list(made)


def _record(found: TypeEvidence) -> bytes:
    return (to_json_text(found.to_json(), indent=1) + "\n").encode("utf-8")
