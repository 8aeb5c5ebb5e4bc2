"""What a training or a build will take, tried in a process of its own while its settings are still chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from scx_core.build import BuildConfig, estimate_build
from scx_core.cells import CellChoices
from scx_core.circuits.schema import Misfit, read_record
from scx_core.language import Language
from scx_core.runs import Progress, from_dict, provenance, to_dict
from scx_core.tasks.answer_shapes import each
from scx_core.tasks.sources import Opened
from scx_core.tasks.task import Task
from scx_core.training import estimate
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.estimate import TrainingEstimate
from scx_core.transcoders.sources import Sources
from scx_core.validation.result import plain

TRIAL = "trial"
TRIAL_WORDS = "Trying a few steps"


def trial(opened: Opened, asked: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """`asked`: build (a `BuildConfig`) and n_genes, or transcoder and train for the job's model; n_cells.
    Gives each part's `TrainingEstimate` by its name. Raises ScxError where the device or the memory does not
    suffice."""
    progress(0, 1, "a few steps")
    if "build" in asked:
        parts = estimate_build(from_dict(BuildConfig, asked["build"]), asked["n_genes"], asked["n_cells"])
    else:
        coder = from_dict(TranscoderConfig, asked["transcoder"])
        found = estimate(opened.lm, coder, from_dict(TrainConfig, asked["train"]), asked["n_cells"])
        parts = {"transcoders": found}
    return {name: plain(part) for name, part in parts.items()}


def read_trial(record: Mapping[str, Any]) -> dict[str, TrainingEstimate]:
    """What `trial` gave, of one part or of several, the model's then among them. Raises Misfit."""
    found = {}
    for name, part in each(record).items():
        try:
            found[name] = read_record(TrainingEstimate, part)
        except Misfit as misfit:
            raise misfit.inside(name[:40]) from None
    if len(found) > 1 and "model" not in found:
        raise Misfit("lacks model")
    return found


def training_trial(
    sources: Sources, lm: Language, transcoder: TranscoderConfig, train: TrainConfig, n_cells: int
) -> Task:
    """The trial of a training of a model on its device, the same for all cells of as many rows."""
    asked = {"transcoder": to_dict(transcoder), "train": to_dict(train), "n_cells": n_cells}
    about = provenance(config={"asked": asked, "device": str(lm.device)}, model=lm)
    return Task(TRIAL, f"{TRIAL_WORDS} of a training", sources, asked, about)


def trial_task(cfg: BuildConfig, device: str, n_genes: int, n_cells: int) -> Task:
    """The trial of a build on a device, the same for all cells of as many genes and rows."""
    same = dataclasses.replace(cfg, data=BuildConfig().data, name="", cells=CellChoices())
    asked = {"build": to_dict(same), "n_genes": n_genes, "n_cells": n_cells}
    about = {"asked": asked, "device": device}
    return Task(TRIAL, f"{TRIAL_WORDS} of a build", Sources(device=cfg.device), asked, about)
