"""What the tests of pages share: an empty place for runs, and an atlas of a few cells that is made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.parts.features import atlas_source
from scx_core.atlas import AtlasConfig, atlas_of
from scx_core.atlas.atlas_folder import run_job
from scx_core.cells import open_cells
from scx_core.language import load_language
from scx_core.runs import RunFolder, background
from scx_core.tasks import run_task
from scx_core.tasks.makers_of_training import TRIAL
from scx_core.transcoders import load_set

ENVIRONMENT = ("SCX_DATA", "SCX_MODEL", "SCX_TRANSCODERS")
FEW = 24  # cells of that atlas


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place for runs, and the embedded default whatever the environment says."""
    monkeypatch.setenv("SCX_RUNS", str(tmp_path / "runs"))
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page Train begins a trial without being asked for: no process of a test does."""
    real = background.start

    def start(run: RunFolder) -> object:
        return run.write_status("running", 0, 1, "") if run.kind == TRIAL else real(run)

    monkeypatch.setattr(background, "start", start)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of an atlas of a few embedded cells."""
    root = tmp_path_factory.mktemp("made")
    lm = load_language("embedded")
    coders = load_set("embedded", lm.device, lm.dtype)
    atlas_of(lm, coders, open_cells("embedded"), AtlasConfig(cells=FEW), root=root)
    return root


@pytest.fixture
def kept_atlas(runs: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs folder with the atlas in it, and the page asking for one of so few cells."""
    shutil.copytree(made, runs)
    monkeypatch.setattr(atlas_source, "MANY", FEW)
    return next((runs / "atlases").iterdir())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks are done in this process when they are started; the names of their jobs."""
    started: list[str] = []

    def start(run: RunFolder) -> None:
        started.append(run.name)
        run_job(run) if run.kind == "atlas" else run_task(run)

    monkeypatch.setattr("scx_core.runs.background.start", start)
    return started
