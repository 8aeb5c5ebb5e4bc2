"""The embedded default: the recipe that was chosen on a part of the training cells (docs/recipes.md)."""

from __future__ import annotations

from scx_core.build.config import BuildConfig


def embedded_config() -> BuildConfig:
    """How the embedded model and its two sets of transcoders are made."""
    return BuildConfig(presets="recommended,paper")
