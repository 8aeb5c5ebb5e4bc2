"""Training a small model on the cells in use, with its transcoders: settings and start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts import loaders, sources
from pages.parts.estimates import show_estimate
from pages.parts.forms import config_form
from pages.parts.session import Context
from pages.parts.words import count, safe
from scx_core.build import BuildConfig, estimate_model, launch_build
from scx_core.language import pick_device
from scx_core.language.recipe import RecipeConfig
from scx_core.sentences import SentenceConfig
from scx_core.transcoders import PRESETS

_RECIPE = ("layers", "width", "readings", "vocabulary")


def build_form(ctx: Context) -> Callable[[], None]:
    """What will be made, the few settings that matter, start; gives back what writes how long it will take.

    Raises ScxError for what does not fit.
    """
    table = loaders.cells(ctx)
    st.markdown(
        f"A GPT-NeoX that answers with the {count(len(table.types), 'cell type')} of "
        f"**{safe(sources.cells_name(ctx.data))}** ({count((table.labels != '').sum(), 'labelled cell')}), "
        "its transcoders, and their validation on held-out cells. It runs in the background and goes on when "
        "this page is closed."
    )
    recipe = config_form(RecipeConfig(), "recipe", _RECIPE, columns=4)
    left, right = st.columns([1, 3])
    with left:
        sentences = config_form(SentenceConfig(), "recipe", ("n_genes",), columns=1)
    presets = right.multiselect(
        "Transcoders", list(PRESETS), default=["recommended"], key="build presets",
        help="Presets to train; the first is the one that is used.",
    )  # fmt: skip
    cfg = BuildConfig(data=ctx.data, device=ctx.device, cells=ctx.cells, presets=",".join(presets))
    with st.expander("All settings"):
        cfg = config_form(cfg, "build", ("held_out", "split_by", "split_seed"))
        rest = [name for name in RecipeConfig.__dataclass_fields__ if name not in _RECIPE]
        recipe = config_form(recipe, "recipe all", rest)
        sentences = config_form(sentences, "recipe all", ("tie_seed", "prompt"))
    cfg = dataclasses.replace(cfg, recipe=recipe, sentences=sentences)
    words, name, go = st.columns([4, 2, 1.4], vertical_alignment="bottom")
    called = name.text_input(
        "Name of the model", placeholder=sources.cells_name(ctx.data), key="build name"
    ).strip()
    if go.button("Train the model", type="primary", width="stretch", disabled=not presets):
        run = launch_build(dataclasses.replace(cfg, name=called), called or None)
        st.session_state["scx_run"] = run.name
        st.toast(f"{safe(run.name)} is being built in the background.")
        st.rerun()
    trial = partial(estimate_model, cfg, table.n_genes)
    key, place = (cfg, table.n_genes), str(pick_device(ctx.device))
    return partial(show_estimate, words, key, trial, place, note="Its transcoders come on top.")
