"""What was found: the ladder first, the report to take away, then every test with its rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import pandas as pd
import streamlit as st

from pages.parts.common.results import Column, Memory, download, table
from pages.parts.common.session import Context
from pages.parts.common.tasks import answer, ask_button, pending, sources, waits
from pages.parts.common.words import safe
from pages.parts.evidence.measuring import known
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.measure import TypesConfig
from scx_core.evidence.by_type.record import TypeEvidence, as_one_family
from scx_core.figures import safe_name
from scx_core.figures.drawing.pen import picture_bytes
from scx_core.figures.report import Picture, Table, document_of, report_page
from scx_core.runs import runs_root
from scx_core.runs.files import to_json_text
from scx_core.tasks.estimates import REPORT_SECONDS
from scx_core.tasks.makers_of_reports import REPORTS, read_report, report_task, validation_of

_MARKS = {
    "reached": ":green-badge[:material/check: reached]",
    "not reached": ":red-badge[:material/close: not reached]",
    "not tested": ":gray-badge[not tested]",
}
PDF = "Report, PDF"
FIGURE = 900  # pixels
_PICTURES: Memory[bytes] = Memory(32)
_SHORT = {"reached": "yes", "not reached": "no", "not tested": "–"}
_TABS = {
    "Joint knock-outs": ("Joint knock-outs", "Dose"),
    "Features kept or removed": ("Sufficiency and necessity",),
    "Features edited": ("Ablation and steering of features", "Redundancy"),
    "Genes": ("Genes", "Prediction of single knock-outs"),
    "Stability": ("Stability",),
    "Biology": ("Curated markers", "Another study", "Measured perturbations", "Curated network"),
    "Limits": ("Limits", "Methods"),
}


def ladder(found: TypeEvidence) -> None:
    """How far the claim got, level by level, and on what grounds."""
    made = found.ladder
    show = st.success if made.got_as_far >= 3 else st.warning
    show(f"**{safe(found.label)}** {safe(made.words)}.", icon=":material/stairs:")
    for level in made.levels:
        left, right = st.columns([3, 7], vertical_alignment="center")
        left.markdown(f"**{level.number}** {safe(level.claim)}  \n{_MARKS[level.status]}")
        right.caption(safe(level.words))
    answers = found.answers
    others = ", ".join(f"{name} {n}" for name, n in answers["counts"].items() if name != found.answer)
    st.caption(
        f"The model gives the answer {safe(found.answer)} to {answers['given']} of {answers['n']} unseen "
        f"cells ({answers['low']:.0%} to {answers['high']:.0%})"
        + (f"; else {safe(others)}." if others else ".")
        + " A level counts only when all lower ones are reached. Levels 1 to 4 are about the model."
        + (f" {found.training}" if found.training else "")
    )


def downloads(ctx: Context, tracer: Tracer, found: TypeEvidence, cfg: TypesConfig) -> None:
    """The report to take away: as a page in one click; for print made once by a job; and the record."""
    name = safe_name(found.label)
    places = st.columns([1, 1.8, 1, 2.2])

    def page() -> bytes:
        return report_page(document_of(found, validation_of(tracer))).encode("utf-8")

    download("Report", page, f"{name}_evidence.html", "text/html", place=places[0], kind="primary")
    task = report_task(sources(ctx), tracer, found, cfg)._replace(seconds=REPORT_SECONDS)
    made = answer(task, read_report)
    path = runs_root() / REPORTS / (made.file if made else "")
    if made is not None and path.is_file():
        pdf = f"{name}_evidence.pdf"
        download(PDF, path.read_bytes, pdf, "application/pdf", place=places[1], kind="secondary")
    elif not pending(task):
        with places[1]:
            ask_button(task, PDF)
    record = to_json_text(found.to_json()).encode
    plain = f"{name}_evidence.json"
    download("Record, JSON", lambda: record("utf-8"), plain, "application/json", place=places[2])
    waits(task)


def details(found: TypeEvidence) -> None:
    """Every test: its curves with controls, its tables; as the report has them."""
    mark = to_json_text([found.provenance, found.seconds, [one["source"] for one in found.further]])
    sections = {section.title: section for section in document_of(found).sections}
    for tab, titles in zip(st.tabs(list(_TABS)), _TABS.values(), strict=True):
        with tab:
            for title in titles:
                st.markdown(f"### {title}")
                for part in sections[title].parts:
                    _part(part, mark)


def _part(part: str | Table | Picture, mark: str) -> None:
    """A paragraph, a picture (drawn once as long as the record, `mark`, is the same) or a table."""
    if isinstance(part, str):
        st.markdown(safe(part))
    elif isinstance(part, Picture):
        image = _PICTURES.get((mark, part.name), lambda: picture_bytes(part.draw(), "png"))
        with st.container(width=FIGURE):  # narrower where the window is: an image's own width is kept
            st.image(image, caption=safe(part.caption), width="stretch")
    else:
        st.markdown(f"**{safe(part.title)}**")
        if part.note:
            st.caption(safe(part.note))
        columns: dict[str, Column] = {str(i): (title,) for i, title in enumerate(part.header)}
        rows = [{str(i): text for i, text in enumerate(row)} for row in part.shown]
        table(rows, columns, key=f"evidence {part.name}")


def measured(tracer: Tracer, types: Sequence[str], cfg: TypesConfig) -> dict[str, TypeEvidence]:
    """The records of these settings that are there; one that is damaged is said where its type is chosen."""
    found = {}
    for label in types:
        with suppress(ScxError):
            if (one := known(tracer, label, cfg)) is not None:
                found[label] = one
    return found


def all_types(records: Mapping[str, TypeEvidence]) -> None:
    """One row for each type that is measured with these settings."""
    found = list(records.values())
    if len(found) < 2:
        return
    st.markdown("### All types that are measured")
    st.caption(
        "q-values over all of them together: a type's ladder may differ from the one above, whose family is "
        "the type alone, and which answers of other questions count for."
    )
    rows = []
    for one in as_one_family(found):
        by = {row["name"]: row for row in one.rankings["rankings"]}
        levels = {str(level.number): _SHORT[level.status] for level in one.ladder.levels}
        drops = {
            name: f"{by[name]['drop']['mean']:.2f}" for name in ("circuit", "random", "t-test", "gradient")
        }
        rows.append(
            {"type": one.label, "far": one.ladder.got_as_far, **levels, **drops, "n": one.rankings["n"]}
        )
    columns: dict[str, Column] = {
        "type": ("Cell type",),
        "far": ("Got as far as", "%d"),
        **{str(k): (words,) for k, words in enumerate(_LEVELS, 1)},
        "circuit": ("Lost, circuit", None, "Nats of the answer's log-odds without the ten genes."),
        "random": ("Same ranks",),
        "t-test": ("DE (t-test)",),
        "gradient": ("Gradient × input",),
        "n": ("n", "%d"),
    }
    table(pd.DataFrame(rows), columns, key="evidence all types")


_LEVELS = ("1 exact", "2 predicts", "3 causes", "4 stable", "5 other study", "6 biology")
