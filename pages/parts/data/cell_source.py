"""Where cells come from, and the check-list of what was understood of them, each line with its evidence and a
way to correct it."""

from __future__ import annotations

import dataclasses

import streamlit as st

from pages.parts.common.forms import label_of
from pages.parts.common.session import context
from pages.parts.common.words import HELP, safe
from scx_core.cells import EMBEDDED, PLANTED, CellChoices, CellTable, Finding, keep_upload
from scx_core.runs import options_of, runs_root

EMBEDDED_WORDS, PLANTED_WORDS = "Embedded", "Simulated"
PATH_WORDS, UPLOAD_WORDS = "A path on this computer", "Upload"
_SHIPPED = {EMBEDDED_WORDS: EMBEDDED, PLANTED_WORDS: PLANTED}
_FORMATS = "h5ad, zarr, 10x h5, or a folder with matrix.mtx"

DRAFT = "scx_cell_choices"
NAMES = {
    "file": "File",
    "cells": "Cells",
    "genes": "Genes",
    "symbols": "Gene symbols",
    "values": "Expression values",
    "label": "Cell types",
    "donor": "Donors",
    "organism": "Organism",
}
_ICONS = {
    "ok": ":green[:material/check_circle:]",
    "note": ":blue[:material/info:]",
    "warning": ":orange[:material/warning:]",
}
_NOT_FOUND = ("genome", "labels_file")  # never looked for: only what is typed counts
_CORRECTABLE = ("symbols", "values", "label", "donor", "organism")


def cell_source() -> str | None:
    """The source that is chosen, or None while there is none."""
    ways = [*_SHIPPED, PATH_WORDS, UPLOAD_WORDS]
    now = context().data
    first = next((words for words, source in _SHIPPED.items() if source == now), PATH_WORDS)
    way = st.segmented_control("Where are the cells?", ways, default=first, required=True, key="cells way")
    if way == PATH_WORDS:
        return _path("" if now in _SHIPPED.values() else now)
    if way == UPLOAD_WORDS:
        file = st.file_uploader(
            "File",
            help="An .h5ad file or a 10x .h5 file. Folders (zarr, mtx) and large files: give their path "
            "instead.",
            key="cells file",
        )
        if file is None:
            st.info("Choose an .h5ad or a 10x .h5 file. It stays on the computer that runs this app.")
            return None
        return str(keep_upload(file.name, file, runs_root() / "uploads"))
    if way == PLANTED_WORDS:
        st.info(
            "Simulated cells whose labels follow rules that are known (A and B; A or B; A unless B; two of "
            "three), with a small model of their own. Nothing in them is biology: they show whether a method "
            "finds what is there."
        )
    return _SHIPPED[way]


def _path(now: str) -> str | None:
    typed = st.text_input(
        "Path",
        value=now,
        placeholder="/data/cells.h5ad",
        help=f"{_FORMATS}. Large files are read row by row and never as a whole.",
        key="cells path",
    )
    path = typed.strip().strip("\"'").strip()  # file managers copy a path with its quotes
    if not path:
        st.info(f"Give the path of your cells: {_FORMATS}.")
        return None
    return path


def draft(source: str, start: CellChoices) -> CellChoices:
    """The choices made so far for this source; another source begins anew."""
    if st.session_state.get(DRAFT, ("", None))[0] != source:
        st.session_state[DRAFT] = (source, start)
    return st.session_state[DRAFT][1]


def correct(source: str, **changes: str | None) -> None:
    """Change a choice; the file is opened again with it."""
    _, choices = st.session_state[DRAFT]
    st.session_state[DRAFT] = (source, dataclasses.replace(choices, **changes))


def start_again(source: str) -> None:
    """Back to what is detected."""
    st.session_state[DRAFT] = (source, CellChoices())


def check_list(table: CellTable, source: str) -> None:
    """One row a finding."""
    for finding in table.findings:
        what, evidence, control = st.columns([1.9, 5.2, 2.5], vertical_alignment="center")
        what.markdown(f"{_ICONS[finding.level]} **{NAMES[finding.topic]}**", help=HELP[finding.topic])
        chosen = "" if finding.topic in _CORRECTABLE else f"**{safe(finding.choice)}**: "
        evidence.markdown(chosen + safe(finding.evidence))
        if finding.topic in _CORRECTABLE:
            with control:
                _correction(finding, source)


def _correction(finding: Finding, source: str) -> None:
    options = list(dict.fromkeys((finding.choice, *finding.alternatives)))
    key = f"{source} {finding.topic} {finding.choice}"
    st.selectbox(
        NAMES[finding.topic],
        options,
        format_func=lambda name: "none" if name == "-" else name,
        accept_new_options=True,
        label_visibility="collapsed",
        key=key,
        on_change=_corrected,
        args=(source, finding.topic, key),
    )


def _corrected(source: str, topic: str, key: str) -> None:
    correct(source, **{topic: st.session_state[key] or None})


def say_where(source: str, choices: CellChoices, expanded: bool) -> None:
    """All choices as text, for a file that cannot be opened without them, and the labels file."""
    with st.expander("Say where things are, or join labels from another file", expanded=expanded):
        file = st.file_uploader(
            "Labels file",
            help="CSV or TSV: cell ids in the first column, then columns such as cell_type.",
            key=f"labels {source}",
        )
        with st.form(f"where {source}", border=False):
            places = st.columns(3)
            typed = {
                opt.name: places[i % 3].text_input(
                    label_of(opt), value=getattr(choices, opt.name) or "", help=safe(opt.help),
                    placeholder="none" if opt.name in _NOT_FOUND else "detect",
                    key=f"where {source} {opt.name}",
                )
                for i, opt in enumerate(options_of(CellChoices))
            }  # fmt: skip
            if st.form_submit_button("Open with these"):
                wanted: dict[str, str | None] = {name: text.strip() or None for name, text in typed.items()}
                if file is not None:
                    wanted["labels_file"] = str(keep_upload(file.name, file, runs_root() / "uploads"))
                correct(source, **wanted)
                st.rerun()
