"""Gene sets of one's own for an atlas: files that are given, tested at once, shown with their null."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.common.messages import show_error
from pages.parts.common.words import count, percent, safe
from scx_core.atlas import Atlas, open_gene_sets, with_gene_sets
from scx_core.atlas.gene_sets.gmt import MARKERS
from scx_core.atlas.judge.excess import points
from scx_core.cells import keep_upload
from scx_core.errors import ScxError
from scx_core.runs import runs_root

FORMATS = ["gmt", "csv", "tsv", "gz"]


def gene_sets_form(atlas: Atlas) -> None:
    """What is tested now, and a form that takes files; the atlas is judged anew with them."""
    with st.popover("Gene sets", icon=":material/group_work:", type="tertiary"):
        record = atlas.meta.get("gene_sets")
        if record:
            _tested(record)
        else:
            st.markdown("No gene sets are tested yet. Give some, and see which of them features gather.")
        with st.form("gene sets", border=False):
            files = st.file_uploader(
                "Gene sets", type=FORMATS, accept_multiple_files=True,
                help="GMT, as MSigDB and Enrichr have them, or a CSV or TSV of cell types and markers; "
                "gzipped or not. They replace those of before.",
            )  # fmt: skip
            shipped = st.toggle(
                "Marker lists that ship with scX", value=not record, help="Known markers, with citations."
            )
            if st.form_submit_button("Test them", type="primary"):
                _test(atlas, files, shipped)


def _test(atlas: Atlas, files: list[Any], shipped: bool) -> None:
    """Read, test, keep; the page is drawn again with what was found."""
    if not files and not shipped:
        st.info("Give a file, or take the marker lists.")
        return
    organism = str(atlas.meta.get("organism") or "Homo sapiens")
    try:
        with st.spinner("Testing every feature, and sets with permuted names beside them …"):
            paths = [keep_upload(file.name, file, runs_root() / "uploads") for file in files]
            sources = [*([MARKERS] if shipped else []), *map(str, paths)]
            with_gene_sets(atlas, open_gene_sets(sources, organism))
    except ScxError as error:
        show_error(error)
        return
    st.rerun()


def _tested(record: dict[str, Any]) -> None:
    """What an earlier test found, with what chance gives."""
    st.markdown(
        f"**{safe(record['sets'])}**: {count(record['tested_sets'], 'set')} × "
        f"{count(record['tested_features'], 'feature')} tested. "
        f"**{percent(record['enriched'], 1)}** of {count(record['live_features'], 'live feature')} have a "
        f"significant set, {percent(record['enriched_by_chance'], 2)} with names permuted (a weak rival).",
        help="Fisher's exact test of each feature's strongest genes, upper tail, Benjamini–Hochberg over all "
        "tests. The sets are on each feature's card, in the list's column and in the search.",
    )
    random = [row for row in record.get("rule", ()) if row["rival"] == "random directions"]
    for row in random:
        st.caption(
            f"Rule of the field (3 of 10 genes in one set), {safe(row['of'])}: {percent(row['share'], 1)} of "
            f"{count(row['features'], 'feature')}, {percent(row['rival_share'], 1)} of random directions; "
            f"excess {points(row)} points."
        )
    for note in (*record["notes"], record["warning"]):
        if note:
            st.caption(safe(note))
