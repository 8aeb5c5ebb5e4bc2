"""Where cells come from: embedded, simulated with known rules, a path on this computer, or an upload."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.session import context
from scx_core.cells import EMBEDDED, PLANTED, keep_upload
from scx_core.runs import runs_root

EMBEDDED_WORDS, PLANTED_WORDS = "Embedded", "Simulated"
PATH_WORDS, UPLOAD_WORDS = "A path on this computer", "Upload"
_SHIPPED = {EMBEDDED_WORDS: EMBEDDED, PLANTED_WORDS: PLANTED}
_FORMATS = "h5ad, zarr, 10x h5, or a folder with matrix.mtx"


def cell_source() -> str | None:
    """The source that is chosen, or None while there is none."""
    ways = [*_SHIPPED, PATH_WORDS, UPLOAD_WORDS]
    now = context().data
    first = next((words for words, source in _SHIPPED.items() if source == now), PATH_WORDS)
    way = st.segmented_control("Where are the cells?", ways, default=first, required=True, key="cells way")
    if way == PATH_WORDS:
        return _path("" if now in _SHIPPED.values() else now)
    if way == UPLOAD_WORDS:
        return _upload()
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


def _upload() -> str | None:
    file = st.file_uploader(
        "File",
        help="An .h5ad file or a 10x .h5 file. Folders (zarr, mtx) and large files: give their path instead.",
        key="cells file",
    )
    if file is None:
        st.info("Choose an .h5ad or a 10x .h5 file. It stays on the computer that runs this app.")
        return None
    return str(keep_upload(file.name, file, runs_root() / "uploads"))
