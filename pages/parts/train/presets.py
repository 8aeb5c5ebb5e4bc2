"""Training transcoders: preset cards, the settings that matter, an estimate, and the start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.forms import config_form
from pages.parts.common.session import Context
from pages.parts.common.words import KINDS, safe
from pages.parts.train.estimates import show_estimate
from scx_core.build import launch_training
from scx_core.runs import RunFolder, from_dict
from scx_core.training import estimate
from scx_core.training.config import PRESETS, TrainConfig, TrainingJob, TranscoderConfig

PRESET, COPY, MIRROR = "scx_preset", "scx_copy", "scx_tensorboard"
TITLES = {"recommended": "Recommended", "paper": "As in the paper", "quick": "Quick look"}
MATTER = ("kind", "k", "target_l0", "expansion")
MATTER_TRAIN = ("steps", "cells_per_batch", "learning_rate", "seed")


def preset_cards() -> str:
    """One card a preset; the one that is chosen."""
    chosen = st.session_state.setdefault(PRESET, "recommended")
    for column, (name, preset) in zip(st.columns(len(PRESETS)), PRESETS.items(), strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"### {TITLES.get(name, name)}")
            st.markdown(safe(preset.help) + ".")
            coder = preset.transcoder
            few = "" if coder.kind == "relu" else f", k {coder.k}"
            st.caption(f"{KINDS[coder.kind]}, {coder.expansion}×{few}, {preset.train.steps:,} steps")
            st.button(
                "Chosen" if name == chosen else "Choose",
                icon=":material/check:" if name == chosen else None,
                disabled=name == chosen,
                key=f"preset {name}",
                on_click=_choose,
                args=(name,),
            )
    return chosen


def _choose(name: str) -> None:
    st.session_state[PRESET] = name


def duplicate(run: RunFolder) -> None:
    """Take a run's settings into the form."""
    st.session_state[COPY] = (run.name, run.config["transcoder"], run.config["train"])
    st.session_state[PRESET] = f"{COPY} {run.name}"


def _base(chosen: str) -> tuple[TranscoderConfig, TrainConfig]:
    """The settings to begin with: a preset's, or those of a run."""
    if chosen in PRESETS:
        return PRESETS[chosen].transcoder, PRESETS[chosen].train
    name, transcoder, train = st.session_state[COPY]
    st.info(
        f"The settings of {safe(name)}. Another seed shows how much is chance.",
        icon=":material/content_copy:",
    )
    return from_dict(TranscoderConfig, transcoder), from_dict(TrainConfig, train)


def settings(preset: str) -> tuple[TranscoderConfig, TrainConfig]:
    """The few settings that matter at hand, the others folded away. Raises ScxError for what does not fit."""
    transcoder, train = _base(preset)
    transcoder = config_form(transcoder, f"{preset} tc", MATTER, columns=4)
    train = config_form(train, f"{preset} tr", MATTER_TRAIN, columns=4)
    with st.expander("All settings"):
        rest = [name for name in TranscoderConfig.__dataclass_fields__ if name not in MATTER]
        transcoder = config_form(transcoder, f"{preset} all", rest)
        rest = [name for name in TrainConfig.__dataclass_fields__ if name not in MATTER_TRAIN]
        train = config_form(train, f"{preset} all", rest)
        st.toggle(
            "TensorBoard files",
            key=MIRROR,
            help="Mirror the metrics into the run's folder tensorboard (needs the package tensorboard).",
        )
    return transcoder, train


def start_form(ctx: Context, transcoder: TranscoderConfig, train: TrainConfig) -> Callable[[], None]:
    """The primary action; gives back what writes beside it how long it will take."""
    lm, table = loaders.language(ctx), loaders.cells(ctx)
    words, name, go = st.columns([4, 2, 1.4], vertical_alignment="bottom")
    called = name.text_input("Name of the run", placeholder="the next free number", key="train name")
    if go.button("Start training", type="primary", width="stretch"):
        job = TrainingJob(
            sentences=lm.sentence_config, model=ctx.model, data=ctx.data, device=ctx.device,
            cells=ctx.cells, transcoder=transcoder, train=train,
        )  # fmt: skip
        mirror = bool(st.session_state.get(MIRROR))
        run = launch_training(job, lm, table, called.strip() or None, tensorboard=mirror)
        st.session_state["scx_run"] = run.name
        st.toast(f"{safe(run.name)} is training in the background.")
        st.rerun()
    key = (lm.fingerprint, str(lm.device), transcoder, train, table.n_cells)
    trial = partial(estimate, lm, transcoder, train, table.n_cells)
    weights = sum(p.numel() for p in lm.model.parameters())
    return partial(show_estimate, words, key, trial, str(lm.device), parameters=weights)
