"""A report as one HTML page: pictures and tables inside, nothing fetched, every name escaped, ready to
print."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from string import Template

from scx_core.figures.drawing.pen import picture_bytes
from scx_core.figures.report.files_of_tables import table_bytes
from scx_core.figures.report.parts import Document, Picture, Section, Table


def report_page(document: Document) -> str:
    """The whole document. Its content security policy forbids scripts and every request."""
    here = Path(__file__).parent
    words = {
        "title": document.title,
        "subtitle": document.subtitle,
        "provenance": document.provenance,
    }
    extra = "".join(_link(table) for table in document.tables)
    return Template((here / "report.html").read_text(encoding="utf-8")).substitute(
        {key: html.escape(text) for key, text in words.items()},
        style=(here / "report.css").read_text(encoding="utf-8"),
        sections="\n".join(section_html(section) for section in document.sections),
        files=extra,
    )


def section_html(section: Section) -> str:
    """A heading with what stands below it."""
    tag = f"h{section.level + 1}"
    many = len([part for part in section.parts if isinstance(part, str)]) > 2
    parts = "".join(part_html(part, many) for part in section.parts)
    return f"<section><{tag}>{html.escape(section.title)}</{tag}>{parts}</section>"


_SHORT = ' class="short"'
_ITEM = ' class="item"'


def part_html(part: str | Table | Picture, many: bool = False) -> str:
    """A paragraph (one of `many` is set apart), a table or a picture."""
    if isinstance(part, str):
        return f"<p{_ITEM if many else ''}>{html.escape(part)}</p>"
    if isinstance(part, Picture):
        words = html.escape(part.caption)
        return f'<figure><img alt="{words}" src="{_picture(part)}"><figcaption>{words}</figcaption></figure>'
    return _table(part)


def _picture(picture: Picture) -> str:
    """The figure as an SVG image: in an image nothing runs and nothing is fetched."""
    content = picture_bytes(picture.draw(), "svg", title=picture.name)
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in table.header)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.shown)
    note = f"<p class='note'>{html.escape(table.note)}</p>" if table.note else ""
    small = " whole" if len(table.shown) <= 24 else ""
    return (
        f"<div class='table{small}'><h4>{html.escape(table.title)} {_link(table)}</h4>{note}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A number, alone or with its interval, stays on one line, and so does a word or two."""
    short = len(text) <= 12 or (len(text) <= 22 and text[:1] in "0123456789−–")
    return f"<td{_SHORT if short else ''}>{html.escape(text)}</td>"


def _link(table: Table) -> str:
    """The table as a CSV file that lies in the page itself."""
    data, name = base64.b64encode(table_bytes(table)).decode(), f"{html.escape(table.name)}.csv"
    return f'<a download="{name}" href="data:text/csv;base64,{data}">{name}</a> '
