"""The atlas of what is in use: opened when it was made before, else made when a person asks for it."""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import kept_widgets as kept
from pages.parts.common import loaders
from pages.parts.common.in_use import set_name
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from pages.parts.common.words import count, safe
from scx_core.atlas import Atlas, AtlasConfig, atlas_folder, atlas_of, saved_atlas
from scx_core.atlas.feature_naming import shipped_copy
from scx_core.atlas.tables.atlas import FILE

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
    table = loaders.cells(ctx)
    with st.popover("Cells", icon=":material/tune:", type="tertiary"):
        _cells(table.n_cells, table.unit)


def config(ctx: Context) -> AtlasConfig:
    """The size of the atlas that is asked for on the Features page."""
    n = loaders.cells(ctx).n_cells
    chosen = int(kept.last(f"atlas {n}", min(n, MANY)))
    return AtlasConfig(cells=0 if chosen >= n else chosen)


def _cells(n: int, unit: str) -> None:
    key = kept.kept(f"atlas {n}", min(n, MANY))
    words = "Drawn with a seed. More cells make seldom features surer, and take longer."
    kept.keep(f"atlas {n}", st.number_input(f"Of {count(n, unit)}", 2, n, step=100, key=key, help=words))


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
        _cells(table.n_cells, table.unit)
    st.caption("One to two minutes for 700 cells of the embedded default. Keep this page open meanwhile.")
    if not go.button("Make the atlas", type="primary", width="stretch"):
        return
    _make(ctx, st.empty())
    st.rerun()


def _make(ctx: Context, place: DeltaGenerator) -> None:
    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(min(1.0, done / max(1, total)), text=f"{safe(message or 'Cells')}: {done} of {total}")

    parts = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    place.progress(0.0, text="Writing the cells as sentences …")  # seconds before the first is read
    try:
        with loaders.MODEL_LOCK:
            atlas_of(*parts, config(ctx), progress=tell)
    finally:
        place.empty()


def _key(ctx: Context, cfg: AtlasConfig) -> Hashable:
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    folder = atlas_folder(lm, coders, table, cfg)
    file = folder / FILE
    return folder, file.stat().st_mtime_ns if file.exists() else 0  # gene sets change an atlas that is saved
