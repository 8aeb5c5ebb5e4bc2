"""A small model of the control cells of a perturbation screen: a reader that never saw a perturbed cell.

Every cell has the same label, so the model learns sentences and nothing about targets. No gene is left out of
the sentences while it trains, because that a gene is missing is what it is asked about later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scx_core.build.config import BuildConfig
from scx_core.build.language_training import train_model
from scx_core.build.recipe import RecipeConfig
from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.evidence.biology.perturbations import Screen
from scx_core.language import Language, load_language
from scx_core.runs import Progress, RunFolder, provenance, silent, stop_requested, to_dict
from scx_core.sentences import SentenceConfig

MODEL, LABEL = "model", "control"
HELD_OUT = 0.2  # of the control cells: genes are taken out of these
MOST_GENES = 200  # in a sentence


def control_recipe() -> RecipeConfig:
    """Size and training of the reader."""
    return RecipeConfig(
        width=96,
        layers=3,
        heads=4,
        residual="sequential",
        readings=24_000,
        batch=16,
        learning_rate=1.5e-3,
        dropout=0.05,
        gene_dropout=0.0,
        answer_weight=2.0,
    )


def control_split(table: CellTable, control: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Control rows to train on, and to read in, ascending."""
    mixed = np.random.default_rng(seed).permutation(control)
    n_out = max(1, round(HELD_OUT * len(mixed)))
    return np.sort(mixed[n_out:]), np.sort(mixed[:n_out])


def control_model(
    folder: Path,
    table: CellTable,
    screen: Screen,
    recipe: RecipeConfig | None = None,
    progress: Progress = silent,
) -> tuple[Language, np.ndarray] | None:
    """The reader in `folder`, trained where it is not there yet, and the control rows that it never read.
    None when it was asked to stop. Raises ScxError when the folder holds a model of other cells."""
    recipe = recipe or control_recipe()
    train, held_out = control_split(table, screen.control, recipe.seed)
    n_genes = min(MOST_GENES, table.n_genes)
    asked = {"column": screen.column, "control": screen.control_label, "data": table.fingerprint}
    if (folder / MODEL / "scx.json").exists():
        lm = load_language(folder / MODEL, "cpu")
        if lm.settings.get("screen") != asked or lm.settings.get("recipe") != to_dict(recipe):
            raise ScxError(f"{folder} holds a model of other cells.", "Give another --name.")
        return lm, held_out
    cfg = BuildConfig(
        data=str(table.path or table.name),
        name=f"control cells of {table.name}",
        held_out=HELD_OUT,
        sentences=SentenceConfig(n_genes=n_genes),
        recipe=recipe,
    )
    run = (
        RunFolder.open(folder)
        if folder.exists()
        else RunFolder.create(folder.parent, "build", cfg, folder.name)
    )
    constant = replace(table, labels=np.full(table.n_cells, LABEL, dtype=object), answer_of=None)
    with run.lock(), stop_requested() as stopping:
        lm_or_none = train_model(
            run,
            constant,
            train,
            folder / MODEL,
            recipe,
            cfg.sentences,
            name=cfg.name,
            settings={
                "screen": asked,
                "provenance": provenance(config=to_dict(cfg), data=table, seed=recipe.seed),
            },
            progress=progress,
            stopped=stopping,
        )
        done = "stopped" if lm_or_none is None else "done"
        run.write_status(done, 0 if lm_or_none is None else 1, 1, done)
    return None if lm_or_none is None else (lm_or_none, held_out)
