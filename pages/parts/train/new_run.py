"""A new run, of transcoders or of a small model with them: settings, an estimate, the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import in_use, loaders
from pages.parts.common.forms import changed_in, config_form, forget_forms, form_value, remember_form
from pages.parts.common.jobs import jobs
from pages.parts.common.session import Context
from pages.parts.common.tasks import answer, behind_the_form, sources
from pages.parts.common.words import KINDS, count, duration, safe, size
from scx_core.build import BuildConfig, launch_build, launch_training
from scx_core.build.recipe import RecipeConfig
from scx_core.language import pick_device
from scx_core.runs import RunFolder, from_dict
from scx_core.runs.jobs import queue_end
from scx_core.sentences import SentenceConfig
from scx_core.tasks import Task
from scx_core.tasks.estimates import training_trial_seconds, trial_seconds
from scx_core.tasks.makers_of_training import TRIAL_WORDS, read_trial, training_trial, trial_task
from scx_core.training.config import PRESETS, TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.estimate import TrainingEstimate

PRESET, COPY, MIRROR = "scx_preset", "scx_copy", "scx_tensorboard"
TITLES = {"recommended": "Recommended", "paper": "As in the paper", "quick": "Quick look"}
MATTER = ("kind", "k", "target_l0", "expansion")
RECIPE_MATTERS = ("layers", "width", "readings")
SMALL = 50_000_000  # parameters up to which the trial takes no more than seconds
FREE = ("learning_rate", "warmup", "decay", "answer_weight", "finetune_rate", "seed", "log_every")
MATTER_TRAIN = ("steps", "cells_per_batch", "learning_rate", "seed")


def preset_cards() -> str:
    """One card a preset; the one that is chosen."""
    last = form_value(PRESET, "recommended")
    chosen = st.session_state.setdefault(PRESET, last if last in PRESETS else "recommended")
    for column, (name, preset) in zip(st.columns(len(PRESETS)), PRESETS.items(), strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"### {TITLES.get(name, name)}")
            st.markdown(safe(preset.help) + ".")
            coder = preset.transcoder
            few = "" if coder.kind == "relu" else f", k {coder.k}"
            st.caption(f"{KINDS[coder.kind]}, {coder.expansion}×{few}, {preset.train.steps:,} steps")
            st.button(
                "Chosen" if name == chosen else f"Choose {TITLES.get(name, name)}",
                icon=":material/check:" if name == chosen else None,
                disabled=name == chosen,
                key=f"preset {name}",
                on_click=_choose,
                args=(name,),
            )
    return chosen


def _choose(name: str) -> None:
    st.session_state[PRESET] = name
    remember_form(PRESET, name, "recommended")


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
    if changed_in(preset):
        words = "Changed from the preset." if preset in PRESETS else "Changed."
        line = st.container(horizontal=True, vertical_alignment="center")
        line.markdown(f":gray[{words}]", width="content")
        line.button("Back to its settings", on_click=forget_forms, args=(preset,), type="tertiary")
    transcoder = config_form(transcoder, f"{preset} tc", MATTER, columns=4, keep=True)
    train = config_form(train, f"{preset} tr", MATTER_TRAIN, columns=4, keep=True)
    with st.expander("All settings"):
        rest = [name for name in TranscoderConfig.__dataclass_fields__ if name not in MATTER]
        transcoder = config_form(transcoder, f"{preset} all", rest, keep=True)
        rest = [name for name in TrainConfig.__dataclass_fields__ if name not in MATTER_TRAIN]
        train = config_form(train, f"{preset} all", rest, keep=True)
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
    after = _queue()
    if go.button("Start training", type="primary", width="stretch"):
        job = TrainingJob(
            sentences=lm.sentence_config, model=ctx.model, data=ctx.data, device=ctx.device,
            cells=ctx.cells, transcoder=transcoder, train=train,
        )  # fmt: skip
        mirror = bool(st.session_state.get(MIRROR))
        run = launch_training(job, lm, table, called.strip() or None, tensorboard=mirror, after=after)
        _started(run, after)
    # neither seed nor rates nor what is written when cost anything: no new trial for them
    same = {name: getattr(TrainConfig(), name) for name in FREE}
    train = dataclasses.replace(train, **same)
    task = training_trial(sources(ctx), lm, transcoder, train, table.n_cells)
    task = task._replace(seconds=training_trial_seconds(lm, transcoder, train))
    weights = sum(p.numel() for p in lm.model.parameters())
    return partial(show_estimate, words, task, str(lm.device), parameters=weights)


def _queue() -> RunFolder | None:
    """The run that a new one waits for: the last at work, unless a person wants both at once."""
    last = queue_end(jobs())
    if last is None:
        return None
    words = "Two trainings at once take twice as long each, and the memory of both."
    wait = st.toggle(f"Wait until {safe(last.name)} has ended", value=True, key="queue", help=words)
    return last if wait else None


def _started(run: RunFolder, after: RunFolder | None) -> None:
    st.session_state["scx_run"] = run.name
    when = f" begins when {safe(after.name)} has ended" if after is not None else " has begun"
    st.toast(f"{safe(run.name)}{when}, in the background.")
    st.rerun()


def build_form(ctx: Context) -> Callable[[], None]:
    """What will be made, the few settings that matter, start; gives back what writes how long it will take.

    Raises ScxError for what does not fit.
    """
    table = loaders.cells(ctx)
    labelled = count((table.labels != "").sum(), f"labelled {table.unit}")
    st.markdown(
        f"A language model that reads **{safe(in_use.cells_name(ctx.data))}** ({labelled}) and answers with "
        f"one of {count(len(table.types), 'cell type')}, then its transcoders, then their validation on "
        "held-out cells. All in the background: this page may be closed. For a few thousand cells the "
        "settings are right as they are."
    )
    left, right = st.columns([3, 1])
    with left:
        recipe = config_form(RecipeConfig(), "recipe", RECIPE_MATTERS, keep=True)
    with right:
        sentences = config_form(SentenceConfig(), "recipe", ("n_genes",), columns=1, keep=True)
    presets = st.multiselect(
        "Transcoders", list(PRESETS), default=["recommended"], key="build presets",
        format_func=lambda name: TITLES.get(name, name),
        help="Presets to train; the first is the one that is used.",
    )  # fmt: skip
    cfg = BuildConfig(data=ctx.data, device=ctx.device, cells=ctx.cells, presets=",".join(presets))
    with st.expander("All settings"):
        cfg = config_form(cfg, "build", ("held_out", "choose", "split_by", "split_seed"), keep=True)
        rest = [name for name in RecipeConfig.__dataclass_fields__ if name not in RECIPE_MATTERS]
        recipe = config_form(recipe, "recipe all", rest, keep=True)
        sentences = config_form(sentences, "recipe all", ("tie_seed", "prompt"), keep=True)
    cfg = dataclasses.replace(cfg, recipe=recipe, sentences=sentences)
    words, name, go = st.columns([4, 2, 1.4], vertical_alignment="bottom")
    proposed = in_use.new_name(ctx.data)
    called = name.text_input("Name of the model", placeholder=proposed, key="build name").strip()
    after = _queue()
    if go.button("Train the model", type="primary", width="stretch", disabled=not presets):
        run = launch_build(dataclasses.replace(cfg, name=called), called or proposed, after=after)
        _started(run, after)
    if not presets:
        words.caption("Choose the transcoders to train with it.")
        return lambda: None
    device = str(pick_device(ctx.device))
    task = trial_task(cfg, device, table.n_genes, table.n_cells)
    task = task._replace(seconds=trial_seconds(cfg, table.n_genes))
    return partial(show_estimate, words, task, device, note="Transcoders included.")


def _asked() -> set[int]:
    """Sizes of the models whose estimates a person wants to see, whatever is changed in the form."""
    return st.session_state.setdefault("scx_estimates", set())


def show_estimate(
    place: DeltaGenerator, task: Task, device: str, *, parameters: int = 0, note: str = ""
) -> None:
    """One sentence in `place` once the trial is there, which is a job of its own: one at a time, so that the
    form stays usable. It is begun without being asked for, but for a model of many `parameters`."""
    found = answer(task, read_trial)
    with place:
        if found is not None:
            estimate_words(all_parts(found), device, note)
        elif parameters <= SMALL or parameters in _asked():
            behind_the_form(task, TRIAL_WORDS)
        elif st.button("Estimate time and memory"):
            _asked().add(parameters)
            behind_the_form(task, TRIAL_WORDS)


def all_parts(parts: Mapping[str, TrainingEstimate]) -> TrainingEstimate:
    """All parts of a build one after the other: their times together, the memory of the largest."""
    most = max(parts.values(), key=lambda part: part.bytes)
    if len(parts) == 1:
        return most
    return parts["model"]._replace(seconds=sum(part.seconds for part in parts.values()), bytes=most.bytes)


def estimate_words(found: TrainingEstimate, device: str, note: str = "") -> None:
    """Time and memory in one sentence, and how they are known."""
    st.markdown(
        f"About **{duration(found.seconds)}** on {safe(device.upper())} and **{size(found.bytes)}** of "
        f"memory. {note or (found.words() if found.step else '')}",
        help=f"{'Counted, with a timed pass,' if found.step else 'Two steps on random tokens'} of the "
        f"usual length ({count(found.tokens_per_step, 'token')} a step, "
        f"{count(found.parameters, 'weight')}), extrapolated. Other jobs make it slower.",
    )
