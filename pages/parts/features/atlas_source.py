"""The atlas of what is in use: opened when it was made before, made when a person asks for it or in the
background while its circuits are looked at, and tested with gene sets of one's own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.in_use import set_name
from pages.parts.common.jobs import job_box
from pages.parts.common.messages import show_error
from pages.parts.common.results import Memory
from pages.parts.common.session import Context, kept, last
from pages.parts.common.tasks import at_work, begin, sources, waits
from pages.parts.common.words import count, duration, percent, safe
from scx_core.atlas import (
    Atlas,
    AtlasConfig,
    atlas_folder,
    open_gene_sets,
    saved_atlas,
)
from scx_core.atlas.atlas_folder import AtlasJob, job_of, last_asked, launch_atlas
from scx_core.atlas.feature_naming import shipped_copy
from scx_core.atlas.gene_sets.gmt import MARKERS
from scx_core.atlas.judge.excess import points
from scx_core.atlas.tables.atlas import FILE
from scx_core.cells import keep_upload
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, runs_root
from scx_core.tasks.estimates import atlas_seconds, gene_sets_seconds, here
from scx_core.tasks.makers_of_features import gene_sets_task
from scx_core.transcoders.sources import absolute

MOST_FEATURES = 50_000  # of a set whose atlas is begun without being asked for
ELSEWHERE = "The page Features makes an atlas of them, and names from it."
GENE_SET_FILES = ["gmt", "csv", "tsv", "gz"]
MANY = 3000  # cells: more make rare features surer, and take longer
_OPEN: Memory[Atlas] = Memory(4)


def atlas_in_use(ctx: Context) -> Atlas | None:
    """The atlas, or None after drawing what makes it. Raises ScxError."""
    found = known(ctx, config(ctx))
    if found is None:
        with st.container(border=True):
            _maker(ctx)
    return found


def known(ctx: Context, cfg: AtlasConfig | None = None) -> Atlas | None:
    """The atlas if it was made already, read once for all sessions. Raises ScxError."""
    cfg = cfg or config(ctx)
    parts = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    key = _key(ctx, cfg)
    found = _OPEN.peek(key)
    if found is None:
        saved = saved_atlas(*parts, cfg)
        found = _OPEN.get(key, lambda: saved) if saved is not None else None
    return _shipped(ctx) if found is None and cfg == AtlasConfig(cells=0) else found


def _shipped(ctx: Context) -> Atlas | None:
    """The one of all cells that ships with scX, in its short form: nobody has made a longer one."""
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    folder = shipped_copy({"model": lm, "transcoders": coders, "data": table})
    if folder is None:
        return None
    return _OPEN.get((folder, (folder / FILE).stat().st_mtime_ns), lambda: Atlas.open(folder))


def again(ctx: Context) -> None:
    """A small way to take another number of cells."""
    with st.popover("Cells", icon=":material/tune:", type="tertiary"):
        _cells(ctx)


def config(ctx: Context) -> AtlasConfig:
    """The size of the atlas that is asked for on the Features page."""
    n = loaders.cells(ctx).n_cells
    chosen = last(f"atlas {n}", None)
    chosen = _first(ctx) if chosen is None else int(chosen)
    return AtlasConfig(cells=0 if chosen >= n else chosen)


def _first(ctx: Context) -> int:
    """The cells of the atlas that was last made or begun of what is in use, by whatever session: a reload
    knows no choice, and what took minutes would pass for not made. Else so many as are worth their time."""
    parts = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    n, cfg = parts[-1].n_cells, last_asked(*parts)
    return min(n, MANY) if cfg is None else cfg.cells or n


def _cells(ctx: Context) -> None:
    table = loaders.cells(ctx)
    n, unit = table.n_cells, table.unit
    words = "Drawn with a seed. More cells make seldom features surer, and take longer."
    kept(
        st.number_input, f"How many {unit}s, at most {n:,}", f"atlas {n}", _first(ctx),
        min_value=2, max_value=n, step=100, help=words,
    )  # fmt: skip


def _maker(ctx: Context) -> None:
    """What an atlas is, how many cells it takes, and the button."""
    table, coders = loaders.cells(ctx), loaders.transcoders(ctx)
    st.markdown("### The atlas is not made yet")
    st.markdown(
        f"One pass over the cells collects, for each of the {coders.n_features * len(coders.layers):,} "
        f"features of **{safe(set_name(ctx.transcoders))}**, where it fires, at which genes and in which "
        "cells, and gives it a verdict. Directions drawn at random and the raw MLP neurons go through the "
        "same protocol: a share counts by what it has over them. It is kept with the runs, and opens at "
        "once the next time."
    )
    number, go, _ = st.columns([1.4, 1.4, 4], vertical_alignment="bottom")
    with number:
        _cells(ctx)
    run = _job(ctx)
    busy = run is not None and run.status().state == "running"
    if not busy:
        seconds = atlas_seconds(loaders.language(ctx), coders, table, config(ctx).cells or table.n_cells)
        st.caption(f"About {duration(here('atlas', seconds))}, in the background: this page may be left.")
    if go.button("Make the atlas", type="primary", width="stretch", disabled=busy):
        run = _launch(ctx)
        st.rerun()
    job_box(run)


def _job(ctx: Context) -> RunFolder | None:
    return job_of(loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx), config(ctx))


def _launch(ctx: Context) -> RunFolder:
    """Raises ScxError for a set that was never saved."""
    parts = (absolute(source) for source in (ctx.data, ctx.model, ctx.transcoders))
    job = AtlasJob(*parts, ctx.device, ctx.as_is, ctx.cells, config(ctx))
    return launch_atlas(job, loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx))


def _key(ctx: Context, cfg: AtlasConfig) -> Hashable:
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    folder = atlas_folder(lm, coders, table, cfg)
    file = folder / FILE
    return folder, file.stat().st_mtime_ns if file.exists() else 0  # gene sets change an atlas that is saved


def atlas_under_way(ctx: Context) -> str:
    """Begin the atlas of the set in use if it has none; how far it is, in a sentence."""
    coders = loaders.transcoders(ctx)
    if not coders.fingerprint or coders.n_features * len(coders.layers) > MOST_FEATURES:
        return ELSEWHERE
    run = _job(ctx)
    if run is None:
        try:
            run = _launch(ctx)
        except ScxError:
            return ELSEWHERE
    status = run.status()
    if status.state == "running":
        share = percent(status.done / status.total) if status.total else "0%"
        left = f", {duration(status.eta_s)} left" if status.eta_s else ""
        return f"An atlas of them is being made in the background ({share}{left}); its names come with it."
    if status.state == "done":
        return "Their atlas is ready: reload the page for its names."
    return f"Their atlas could not be made: {safe(status.error or status.message)} {ELSEWHERE}"


def gene_sets_form(ctx: Context, atlas: Atlas) -> None:
    """What is tested now, and a form that takes files; a job judges the atlas anew with them."""
    with st.popover("Gene sets", icon=":material/group_work:", type="tertiary"):
        record = atlas.meta.get("gene_sets")
        if record:
            _sets_tested(record)
        else:
            st.markdown("No gene sets are tested yet. Give some, and see which of them features gather.")
        with st.form("gene sets", border=False):
            files = st.file_uploader(
                "Gene sets", type=GENE_SET_FILES, accept_multiple_files=True,
                help="GMT, as MSigDB and Enrichr have them, or a CSV or TSV of cell types and markers; "
                "gzipped or not. They replace those of before.",
            )  # fmt: skip
            shipped = st.toggle(
                "Marker lists that ship with scX", value=not record, help="Known markers, with citations."
            )
            busy = atlas.folder is not None and at_work(gene_sets_task(sources(ctx), atlas.folder, [], ""))
            words = "One test of an atlas at a time: it says below how far it is." if busy else None
            if st.form_submit_button("Test them", type="primary", disabled=busy, help=words):
                _test_sets(ctx, atlas, files, shipped)


def gene_sets_under_way(ctx: Context, atlas: Atlas) -> None:
    """The test of this atlas while it runs, in every tab; what was tested before stays until it is done."""
    if atlas.folder is not None:
        waits(gene_sets_task(sources(ctx), atlas.folder, [], ""))


def _test_sets(ctx: Context, atlas: Atlas, files: list[Any], shipped: bool) -> None:
    """Read the files, so that a mistake is said at once; then a job tests them."""
    if not files and not shipped:
        st.info("Give a file, or take the marker lists.")
        return
    organism = str(atlas.meta.get("organism") or "Homo sapiens")
    try:
        paths = [keep_upload(file.name, file, runs_root() / "uploads") for file in files]
        read_from = [*([MARKERS] if shipped else []), *(str(path.resolve()) for path in paths)]
        n_sets = len(open_gene_sets(read_from, organism).sets)
    except ScxError as error:
        show_error(error)
        return
    if atlas.folder is not None:
        task = gene_sets_task(sources(ctx), atlas.folder, read_from, organism)
        begin(task._replace(seconds=gene_sets_seconds(len(atlas.feature_table), n_sets)))


def _sets_tested(record: dict[str, Any]) -> None:
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
