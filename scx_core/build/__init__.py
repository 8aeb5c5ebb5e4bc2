"""From cells to everything a circuit needs: a small model, its transcoders, their validation, a card.

In comes a cell table's path and a `BuildConfig`; out goes a run folder with `model/`, `transcoders/`, one
folder more for each further preset, and `card.md`. The embedded default is made by the same code.
"""

from scx_core.build.card import card
from scx_core.build.config import BuildConfig
from scx_core.build.estimate import estimate_build
from scx_core.build.pipeline import build, install, launch_build, launch_training, new_build
from scx_core.runs import runs_root
