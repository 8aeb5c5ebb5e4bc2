"""Answers of other questions about this circuit that lie in the runs folder: what they are, and whether they
count."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.messages import show_error
from pages.parts.common.session import last, put
from pages.parts.common.words import safe
from scx_core.cells import keep_upload
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.further import Answer, answer_in, kept_answers
from scx_core.evidence.by_type.measure import with_further
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs import runs_root

_LEVEL = {
    "transfer": "level 5, another study",
    "perturbations": "level 6, a measured screen",
    "network": "level 6, a curated network",
    "stability": "level 4, what else was varied",
    "steer": "ablation and steering of features",
    "redundancy": "redundancy",
}
_GIVEN = "evidence answers given"


def with_chosen(tracer: Tracer, found: TypeEvidence) -> TypeEvidence:
    """The record with the answers that a person lets count: those of the runs folder at first, and files."""
    answers = [*_given(tracer, found.label), *kept_answers(tracer, found.label)]
    answers = list({(one.question, one.source): one for one in answers}.values())
    with st.expander(f"Answers of other questions that count here: {len(answers)}", icon=":material/link:"):
        if not answers:
            st.caption(
                "None about this circuit lies in the runs folder. `scx evidence transfer`, perturbations, "
                "network, stability, steer and redundancy leave theirs there."
            )
        chosen = [one for one in answers if _counts(one)]
        _more(tracer, found.label)
    return with_further(found, chosen)


def _counts(one: Answer) -> bool:
    words = f"**{_LEVEL[one.question]}**: {safe(one.says)} :gray[{safe(one.source)}]"
    return st.checkbox(words, value=True, key=f"counts {one.question} {one.source}")


def _given(tracer: Tracer, label: str) -> list[Answer]:
    """Those of files that a person gave in this session; what says nothing of this type stays out."""
    found = []
    for path in last(_GIVEN, ()):
        try:
            one = answer_in(path, tracer, label)
        except ScxError as error:  # another model or other cells are in use now
            st.caption(f":material/block: {safe(error.problem)}")
            continue
        if one is not None:
            found.append(one)
    return found


def _more(tracer: Tracer, label: str) -> None:
    """A file of one's own: taken, or refused in one line."""
    file = st.file_uploader(
        "Another answer", type="json", key="evidence answer", help="The --json of one of these commands."
    )
    if file is None:
        return
    path = str(keep_upload(file.name, file, runs_root() / "uploads"))
    try:
        if answer_in(path, tracer, label) is None:
            st.info(f"{safe(file.name)} says nothing of {safe(label)}.")
        elif path not in last(_GIVEN, ()):
            put(_GIVEN, (*last(_GIVEN, ()), path))
            st.rerun()
    except ScxError as error:
        show_error(error)
