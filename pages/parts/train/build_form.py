"""Training a small model on the cells in use, with its transcoders: settings and start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts.common import in_use as sources
from pages.parts.common import loaders
from pages.parts.common.forms import config_form
from pages.parts.common.session import Context
from pages.parts.common.words import count, safe
from pages.parts.train.estimates import show_estimate
from pages.parts.train.presets import TITLES
from scx_core.build import BuildConfig, estimate_build, launch_build
from scx_core.build.recipe import RecipeConfig
from scx_core.language import pick_device
from scx_core.sentences import SentenceConfig
from scx_core.training.config import PRESETS
from scx_core.training.estimate import TrainingEstimate

_RECIPE = ("layers", "width", "readings")


def build_form(ctx: Context) -> Callable[[], None]:
    """What will be made, the few settings that matter, start; gives back what writes how long it will take.

    Raises ScxError for what does not fit.
    """
    table = loaders.cells(ctx)
    labelled = count((table.labels != "").sum(), f"labelled {table.unit}")
    st.markdown(
        f"A language model that reads **{safe(sources.cells_name(ctx.data))}** ({labelled}) and answers with "
        f"one of {count(len(table.types), 'cell type')}, then its transcoders, then their validation on "
        "held-out cells. All in the background: this page may be closed. For a few thousand cells the "
        "settings are right as they are."
    )
    left, right = st.columns([3, 1])
    with left:
        recipe = config_form(RecipeConfig(), "recipe", _RECIPE)
    with right:
        sentences = config_form(SentenceConfig(), "recipe", ("n_genes",), columns=1)
    presets = st.multiselect(
        "Transcoders", list(PRESETS), default=["recommended"], key="build presets",
        format_func=lambda name: TITLES.get(name, name),
        help="Presets to train; the first is the one that is used.",
    )  # fmt: skip
    cfg = BuildConfig(data=ctx.data, device=ctx.device, cells=ctx.cells, presets=",".join(presets))
    with st.expander("All settings"):
        cfg = config_form(cfg, "build", ("held_out", "choose", "split_by", "split_seed"))
        rest = [name for name in RecipeConfig.__dataclass_fields__ if name not in _RECIPE]
        recipe = config_form(recipe, "recipe all", rest)
        sentences = config_form(sentences, "recipe all", ("tie_seed", "prompt"))
    cfg = dataclasses.replace(cfg, recipe=recipe, sentences=sentences)
    words, name, go = st.columns([4, 2, 1.4], vertical_alignment="bottom")
    proposed = sources.new_name(ctx.data)
    called = name.text_input("Name of the model", placeholder=proposed, key="build name").strip()
    if go.button("Train the model", type="primary", width="stretch", disabled=not presets):
        run = launch_build(dataclasses.replace(cfg, name=called), called or proposed)
        st.session_state["scx_run"] = run.name
        st.toast(f"{safe(run.name)} is being built in the background.")
        st.rerun()
    if not presets:
        words.caption("Choose the transcoders to train with it.")
        return lambda: None
    trial = partial(_estimate, cfg, table.n_genes, table.n_cells)
    key, place = (cfg, table.n_genes, table.n_cells), str(pick_device(ctx.device))
    return partial(show_estimate, words, key, trial, place, note="Transcoders included.")


def _estimate(cfg: BuildConfig, n_genes: int, n_cells: int) -> TrainingEstimate:
    """All parts of a build one after the other: their times together, the memory of the largest."""
    parts = estimate_build(cfg, n_genes, n_cells)
    most = max(parts.values(), key=lambda part: part.bytes)
    return parts["model"]._replace(seconds=sum(part.seconds for part in parts.values()), bytes=most.bytes)
