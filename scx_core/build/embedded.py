"""The embedded default: the recipe that was chosen on a part of the training cells (docs/recipes.md)."""

from __future__ import annotations

from scx_core.build.config import BuildConfig
from scx_core.build.recipe import RecipeConfig
from scx_core.sentences import SentenceConfig


def embedded_config() -> BuildConfig:
    """How the embedded model and its two sets of transcoders are made.

    A small vocabulary spells a gene in three or four tokens, as a real checkpoint does; with one head a
    block and ReLU that starts away from zero, it is the MLPs that must put the pieces together.
    """
    return BuildConfig(
        presets="recommended,paper",
        sentences=SentenceConfig(n_genes=80),
        recipe=RecipeConfig(
            layers=3,
            heads=1,
            residual="sequential",
            activation="relu",
            mlp_start=4.0,
            vocabulary=400,
            readings=12_000,
            batch=8,
            learning_rate=1.5e-3,
            answer_weight=12.0,
        ),
    )
