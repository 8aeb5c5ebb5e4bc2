"""Start trainings and builds as background jobs; the page and the command line use the same lines."""

from __future__ import annotations

from pathlib import Path

from scx_core.build.config import BuildConfig
from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.runs import RunFolder, runs_root, start
from scx_core.runs.jobs import RUN
from scx_core.runs.tensorboard import check_installed
from scx_core.training.config import TrainingJob
from scx_core.training.train import new_run

TRAIN_ARGV = ("train", "--run", RUN)
BUILD_ARGV = ("demo", "build", "--run", RUN)


def launch_training(
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    name: str | None = None,
    root: Path | None = None,
    tensorboard: bool = False,
) -> RunFolder:
    """Start training transcoders in the background, with TensorBoard's event files where asked for. Raises
    ScxError when the cells cannot be split, or TensorBoard is asked for and not installed."""
    if tensorboard:
        check_installed()
    argv = [*TRAIN_ARGV, *(["--tensorboard"] if tensorboard else [])]
    run = new_run(root or runs_root(), job, lm, table, name, argv=argv)
    start(run)
    return run


def new_build(cfg: BuildConfig, name: str | None = None, root: Path | None = None) -> RunFolder:
    """A run folder for a build; nothing is started."""
    return RunFolder.create(root or runs_root(), "build", cfg, name, argv=BUILD_ARGV)


def launch_build(cfg: BuildConfig, name: str | None = None, root: Path | None = None) -> RunFolder:
    """Start a build (model, transcoders, validation) in the background."""
    run = new_build(cfg, name, root)
    start(run)
    return run
