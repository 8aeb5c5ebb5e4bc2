"""The report on one cell type: what a referee wants to see, as one HTML page, one PDF and the tables behind.

In comes a `TypeEvidence` and, where there is one, the `Validation` of what it was measured with; `document`
makes sections of it, once; `page` and `print_out` write them; `tables` gives every table as CSV.
"""

from scx_core.figures.report.document import document_of
from scx_core.figures.report.files import report_files, write_report
from scx_core.figures.report.page import report_page
from scx_core.figures.report.parts import Document, Picture, Section, Table
from scx_core.figures.report.print_out import report_pdf

__all__ = [
    "Document",
    "Picture",
    "Section",
    "Table",
    "document_of",
    "report_files",
    "report_page",
    "report_pdf",
    "write_report",
]
