"""An atlas made in the background: a run folder of its own beside the atlases, one for each atlas."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from scx_core.atlas.atlas_folder import FOLDER, atlas_folder, atlas_of
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.tables.atlas import Atlas
from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.errors import ScxError
from scx_core.language import Language, load_language
from scx_core.runs import Progress, RunFolder, from_dict, option, runs_root, silent, start
from scx_core.runs.jobs import RUN
from scx_core.transcoders import TranscoderSet, load_set

JOBS = "jobs"  # inside the folder of atlases
ARGV = ("atlas", "--run", RUN)


@dataclass(frozen=True)
class AtlasJob:
    """What to open, and how large an atlas of it to make."""

    data: str = option("embedded", "Path of the cells, or embedded")
    model: str = option("embedded", "Folder or hub id of the model, or embedded")
    transcoders: str = option("embedded", "Folder of the set, or embedded")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    cells: CellChoices = field(default_factory=CellChoices)
    atlas: AtlasConfig = field(default_factory=AtlasConfig)


def job_of(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    cfg: AtlasConfig | None = None,
    root: Path | None = None,
) -> RunFolder | None:
    """The job that makes or made this atlas, None where there never was one."""
    folder = _folder(lm, transcoders, table, cfg, root)
    return RunFolder.open(folder) if (folder / "run.json").exists() else None


def launch_atlas(
    job: AtlasJob, lm: Language, transcoders: TranscoderSet, table: CellTable, root: Path | None = None
) -> RunFolder:
    """Start making the atlas of a set in the background; a job that runs already goes on as it is.

    Raises ScxError for a set that was never saved.
    """
    if not transcoders.fingerprint:
        raise ScxError("This set was never saved, so its atlas could not be found again.", "Save it first.")
    folder = _folder(lm, transcoders, table, job.atlas, root)
    run = job_of(lm, transcoders, table, job.atlas, root)
    run = run or RunFolder.create(folder.parent, "atlas", job, folder.name, argv=ARGV)
    if run.status().state != "running":
        start(run)
    return run


def run_job(run: RunFolder, progress: Progress = silent) -> Atlas:
    """Make the atlas of a job and keep it where it is looked for. Raises ScxError where its parts cannot be
    opened or do not fit; the job's status says so then."""
    job = from_dict(AtlasJob, run.config)

    def tell(done: int, total: int, message: str = "") -> None:
        run.write_status("running", done, total, message)
        progress(done, total, message)

    with run.lock():
        try:
            tell(0, 1, "opening cells, model and transcoders")
            table, lm = open_cells(job.data, job.cells), load_language(job.model, job.device)
            coders = load_set(job.transcoders, lm.device, lm.dtype)
            root = run.path.parent.parent.parent  # RUNS/atlases/jobs/NAME
            made = atlas_of(lm, coders, table, job.atlas, root=root, progress=tell)
        except ScxError as error:
            status = run.status()
            run.write_status("failed", status.done, status.total, error.problem, error=str(error))
            raise
        run.write_status("done", 1, 1, "finished")
        return made


def _folder(
    lm: Language, transcoders: TranscoderSet, table: CellTable, cfg: AtlasConfig | None, root: Path | None
) -> Path:
    name = atlas_folder(lm, transcoders, table, cfg, root).name
    return (root or runs_root()) / FOLDER / JOBS / name[:80]
