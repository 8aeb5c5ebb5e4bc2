"""The stages of a build, each skipped when its result is there: model, transcoders, validation, card; and
how trainings and builds are started in the background, in the same lines by the page and the command line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from scx_core.atlas import atlas_of
from scx_core.atlas.atlas_folder import ship
from scx_core.atlas.tables.atlas import FILE as ATLAS_FILE
from scx_core.build.card import card
from scx_core.build.config import BuildConfig
from scx_core.build.language_training import train_model
from scx_core.cells import CellTable, Split, open_cells, split_cells
from scx_core.errors import ScxError
from scx_core.language import Language, load_language, pick_device
from scx_core.places import models_folder
from scx_core.runs import (
    Progress,
    RunFolder,
    from_dict,
    provenance,
    read_json,
    runs_root,
    silent,
    start,
    stop_requested,
    to_dict,
    write_atomic,
    write_json,
)
from scx_core.runs.jobs import RUN
from scx_core.runs.tensorboard import check_installed
from scx_core.training import train
from scx_core.training.config import PRESETS, TrainingJob
from scx_core.training.train import new_run
from scx_core.transcoders import load_set
from scx_core.validation import accuracy_by_tie_seed, validate
from scx_core.validation.held_out import draw_rows
from scx_core.validation.result import FILE as VALIDATION_FILE

ATLAS = "atlas"  # folder of a build
WATCHED = 64  # cells that do not train whose answers are counted while a model is trained
MODELS = models_folder()
EMBEDDED_NAME = "scX embedded PBMC"
# Held-out cells, and seeds, that the dependence on tie order is measured with.
SOME, TIE_SEEDS = 200, (0, 1, 2, 3, 4)


def set_folder(run: RunFolder, preset: str, first: str) -> Path:
    """Where the transcoders of a preset go: `transcoders`, and `transcoders-NAME` for further ones."""
    return run.path / ("transcoders" if preset == first else f"transcoders-{preset}")


def build(run: RunFolder, progress: Progress = silent) -> dict[str, Any] | None:
    """Run or resume a build. Returns the figures of the card, or None when it was asked to stop (SIGTERM).

    Raises ScxError when the cells cannot be read, a loss is not finite, or another process holds the run.
    """
    cfg = from_dict(BuildConfig, run.config)
    if (run.path / "metrics.json").exists():
        return read_json(run.path / "metrics.json")
    with run.lock():  # of another process: what it says of itself stays
        try:
            return _stages(run, cfg, progress)
        except ScxError as error:
            status = run.status()
            run.write_status("failed", status.done, status.total, error.problem, error=str(error))
            raise


def _told(run: RunFolder, progress: Progress, part: int, parts: int) -> Progress:
    """Progress that is written to the run as well: the steps are those of one part of the build."""

    def tell(done: int, total: int, message: str = "") -> None:
        run.write_status("running", done, total, message, part=part, parts=parts)
        progress(done, total, message)

    return tell


def _stages(run: RunFolder, cfg: BuildConfig, progress: Progress) -> dict[str, Any] | None:
    unknown = [name for name in cfg.preset_names if name not in PRESETS]
    if unknown or not cfg.preset_names:
        raise ScxError(
            f"There is no preset {', '.join(unknown) or '(none given)'}.", f"Known: {', '.join(PRESETS)}."
        )
    parts = 3 + len(cfg.preset_names)  # the model, each set with its validation, the atlas, the card
    tell = _told(run, progress, 1, parts)
    tell(0, 1, "reading the cells")
    table = open_cells(cfg.data, cfg.cells)
    split = split_cells(table, cfg.held_out, cfg.split_by, cfg.split_seed, cfg.choose)
    lm = _model(run, cfg, table, split, tell)
    if lm is None:
        _say_stopped(run)
        return None
    figures: dict[str, Any] = {
        "model": lm.name,
        "n_train": len(split.train),
        "n_choose": len(split.choose),
        "n_held_out": len(split.held_out),
    }
    for part, preset in enumerate(cfg.preset_names, 2):
        done = _transcoders(run, cfg, preset, lm, table, split, _told(run, progress, part, parts))
        if done is None:
            _say_stopped(run)
            return None
        figures[preset] = done
    if cfg.atlas:
        _atlas(run, cfg, lm, table, _told(run, progress, parts - 1, parts))
    _told(run, progress, parts, parts)(0, 1, "other orders of equal genes, and the card")
    most = min(SOME, cfg.measured_cells or SOME)
    some = split.held_out[:SOME] if most == SOME else draw_rows(split.held_out, most, cfg.split_seed)
    figures["tie_seeds"] = accuracy_by_tie_seed(lm, table, some, TIE_SEEDS)
    write_atomic(run.path / "card.md", card(lm, table, split, cfg, figures))
    write_json(run.path / "metrics.json", figures)
    run.write_status("done", 1, 1, "finished")
    return figures


def _say_stopped(run: RunFolder) -> None:
    status = run.status()
    run.write_status("stopped", status.done, status.total, "stopped; it goes on where it is resumed")


def _model(
    run: RunFolder, cfg: BuildConfig, table: CellTable, split: Split, progress: Progress
) -> Language | None:
    folder = run.path / "model"
    if (folder / "scx.json").exists():
        return load_language(folder, cfg.device)
    settings = {
        "data": {"name": table.name, "fingerprint": table.fingerprint},
        "split": split.to_json(),
        "provenance": provenance(config=to_dict(cfg), data=table, seed=cfg.recipe.seed),
    }
    with stop_requested() as stopping:
        return train_model(
            run,
            table,
            split.train,
            folder,
            cfg.recipe,
            cfg.sentences,
            name=cfg.name or (EMBEDDED_NAME if cfg.data == "embedded" else Path(table.name).stem),
            settings=settings,
            device=str(pick_device(cfg.device)),
            watched=split.choose[:WATCHED],
            progress=progress,
            stopped=stopping,
        )


def _transcoders(
    run: RunFolder,
    cfg: BuildConfig,
    preset: str,
    lm: Language,
    table: CellTable,
    split: Split,
    progress: Progress,
) -> dict[str, Any] | None:
    """Train one preset (in a run of its own inside the build's folder), validate it, keep the figures."""
    folder = set_folder(run, preset, cfg.preset_names[0])
    if not (folder / "scx.json").exists():
        inner = run.path / f"train-{preset}"
        wanted = PRESETS[preset]
        if inner.exists():
            training = RunFolder.open(inner)
        else:
            job = TrainingJob(
                model=str(run.path / "model"),
                data=cfg.data,
                device=cfg.device,
                cells=cfg.cells,
                sentences=cfg.sentences,
                transcoder=wanted.transcoder,
                train=replace(  # choose: of no account where the model's split has
                    wanted.train, choose=cfg.choose, steps=cfg.transcoder_steps or wanted.train.steps
                ),
            )
            training = new_run(run.path, job, lm, table, inner.name)
        if train(training, lm, table, _named(progress, f"transcoders, {preset}")) is None:
            return None
        shutil.copytree(inner / "transcoders", folder, dirs_exist_ok=True)
    report = run.path / f"validation-{preset}.json"
    if not report.exists():
        found = validate(
            lm,
            load_set(folder),
            table,
            draw_rows(split.held_out, cfg.measured_cells or len(split.held_out), cfg.split_seed),
            train_rows=split.train,
            split=split.words,
            progress=_named(progress, "validation"),
        )
        write_json(report, found.to_json())
    shutil.copy(report, folder / VALIDATION_FILE)  # beside the set, where the app looks for it
    return read_json(report)


def _atlas(run: RunFolder, cfg: BuildConfig, lm: Language, table: CellTable, progress: Progress) -> None:
    """The atlas of the first preset's features: whole, where it is found for this set and these cells, and in
    the short form that ships with the set."""
    if (run.path / ATLAS / ATLAS_FILE).exists():
        return
    first = cfg.preset_names[0]
    coders = load_set(set_folder(run, first, first), lm.device, lm.dtype)
    told = _named(progress, "what each feature responds to")
    ship(atlas_of(lm, coders, table, root=run.path.parent, progress=told), run.path / ATLAS)


def _named(progress: Progress, prefix: str) -> Progress:
    def tell(done: int, total: int, message: str = "") -> None:
        progress(done, total, f"{prefix}: {message}" if message else prefix)

    return tell


def install(run: RunFolder, models: Path = MODELS, name: str = "embedded") -> list[Path]:
    """Copy a finished build to `models/NAME`, `models/NAME-transcoders` …: how the embedded default is made.

    The cards become README.md of the model's folder; the validation tables lie beside the transcoders, the
    atlas of the first set as `models/NAME-atlas`.
    """
    cfg = from_dict(BuildConfig, run.config)
    if not (run.path / "metrics.json").exists():
        raise ScxError(f"The build {run.name} is not finished.", "Resume it first.")
    out = [models / name]
    _replace(run.path / "model", out[0])
    shutil.copy(run.path / "card.md", out[0] / "README.md")
    for preset in cfg.preset_names:
        folder = set_folder(run, preset, cfg.preset_names[0])
        target = models / f"{name}-{folder.name}"
        _replace(folder, target)
        _name_model(target / "scx.json", str(run.path / "model"), name)
        out.append(target)
    if cfg.atlas:
        out.append(models / f"{name}-atlas")
        _replace(run.path / ATLAS, out[-1])
    return out


def _replace(folder: Path, target: Path) -> None:
    """Copy a folder where an earlier build's may be: nothing of that stays, such as a layer that the new one
    does not have."""
    if any((target / name).exists() for name in ("scx.json", "atlas.json")):
        shutil.rmtree(target)
    shutil.copytree(folder, target, dirs_exist_ok=True)


def _name_model(path: Path, folder: str, name: str) -> None:
    """In a set's record, the model's folder in the build becomes the name that it is installed under: the
    same build gives the same files wherever its folder was."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        return name if value == folder else value

    write_json(path, renamed(read_json(path)))


TRAIN_ARGV = ("train", "--run", RUN)
BUILD_ARGV = ("demo", "build", "--run", RUN)


def launch_training(
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    name: str | None = None,
    root: Path | None = None,
    tensorboard: bool = False,
    after: RunFolder | None = None,
) -> RunFolder:
    """Start training transcoders in the background, with TensorBoard's event files where asked for; `after`
    another run where there is one to wait for. Raises ScxError when the cells cannot be split, or TensorBoard
    is asked for and not installed."""
    if tensorboard:
        check_installed()
    argv = [*TRAIN_ARGV, *(["--tensorboard"] if tensorboard else [])]
    run = new_run(root or runs_root(), job, lm, table, name, argv=argv)
    start(run, after=after)
    return run


def new_build(cfg: BuildConfig, name: str | None = None, root: Path | None = None) -> RunFolder:
    """A run folder for a build; nothing is started."""
    return RunFolder.create(root or runs_root(), "build", cfg, name, argv=BUILD_ARGV)


def launch_build(
    cfg: BuildConfig,
    name: str | None = None,
    root: Path | None = None,
    *,
    after: RunFolder | None = None,
) -> RunFolder:
    """Start a build (model, transcoders, validation) in the background, `after` another run where there is
    one to wait for."""
    run = new_build(cfg, name, root)
    start(run, after=after)
    return run
