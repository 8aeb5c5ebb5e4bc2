"""Features: what does this step mean?"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.parts.common.address import LONGEST, View
from pages.parts.common.in_use import set_name, settled
from pages.parts.common.messages import heading
from pages.parts.common.page import run_page
from pages.parts.common.session import Context, context, kept, last, put
from pages.parts.common.words import STAND_INS, count, safe, word
from pages.parts.features import atlas_source
from pages.parts.features import list_view as feature_list
from pages.parts.features.connections_view import feature_links_view
from pages.parts.features.feature_card import (
    enrichment,
    evidence,
    feature_figures,
    feature_heading,
    feature_label,
    genes_and_examples,
    what_it_writes,
    where_it_fires,
)
from pages.parts.features.match_view import match_view
from pages.parts.features.share_view import share_view
from pages.parts.features.verdict_view import verdict_view
from scx_core.atlas import Atlas
from scx_core.atlas.tables.find import named

VIEWS, SHOWN = ("Features", "One gene", "Verdict shares", "Another set"), "features view"
_WORDS = {"view": SHOWN, "find": "find text", "gene": "gene of features"}  # in the address, and the widgets


def page() -> None:
    """The atlas, or the way to it; then one feature or all of them."""
    heading(
        "Features",
        f"What does each {word('feature', 'feature')} of the {STAND_INS} respond to, and what does it write?",
    )
    ctx = context()
    if not settled(ctx):
        return
    atlas = atlas_source.atlas_in_use(ctx)
    if atlas is None:
        return
    opened = feature_list.opened()
    layers, units = int(atlas.meta["n_layers"]), int(atlas.meta["n_units"])
    if opened is not None and opened[0] < layers and opened[1] < units:
        _one(ctx, atlas, *opened)
    else:
        _all(ctx, atlas)


def _all(ctx: Context, atlas: Atlas) -> None:
    about, sets, share, size = st.columns([4.4, 1.2, 0.9, 0.9], vertical_alignment="center")
    about.caption(
        f"{count(atlas.meta['n_layers'], 'layer')} × {count(atlas.meta['n_units'], 'feature')} of "
        f"{safe(set_name(ctx.transcoders))}, over {count(atlas.meta.get('n_cells', 0), 'cell')}, "
        f"{count(atlas.meta.get('n_tokens', 0), 'token')}."
    )
    with sets:
        atlas_source.gene_sets_form(ctx, atlas)
    with share:
        share_view(ctx)
    with size:
        atlas_source.again(ctx)
    atlas_source.gene_sets_under_way(ctx, atlas)
    view = kept(
        st.segmented_control, "View", SHOWN, VIEWS[0], VIEWS, required=True, label_visibility="collapsed"
    )
    if view == VIEWS[1]:
        feature_list.gene_view(atlas)
    elif view == VIEWS[2]:
        verdict_view(atlas)
    elif view == VIEWS[3]:
        match_view(ctx)
    else:
        feature_list.feature_list(atlas)


def _one(ctx: Context, atlas: Atlas, layer: int, number: int) -> None:
    found = atlas.feature(layer, number)
    own = found.labels[-1].label if found.labels else ""
    label = own or str(found.row["label"])
    feature_heading(atlas, found, label)
    feature_figures(found)
    evidence(atlas, found)
    genes_and_examples(found)
    where_it_fires(atlas, found)
    enrichment(found)
    what_it_writes(found)
    feature_links_view(ctx, atlas, found)
    feature_label(atlas, found, label)


def _take(found: Mapping[str, str]) -> None:
    """The view, the search and the feature that an address names; one that is not there is not opened."""
    for name, widget in _WORDS.items():
        if name in found:
            put(widget, found[name][:LONGEST])
    meant = named(found.get("feature", ""))
    if meant is not None and meant[0] is not None:
        feature_list.open_feature(meant[0], meant[1])
    else:
        feature_list.close()


def _give() -> dict[str, str]:
    opened = feature_list.opened()
    words = {name: str(last(widget, "")) for name, widget in _WORDS.items()}
    return words | {"feature": f"L{opened[0]}-{opened[1]}" if opened else ""}


run_page("pages/features.py", page, View(_take, _give))
