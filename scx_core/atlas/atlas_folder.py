"""Where atlases lie, so that each is made once: the runs folder, by the identity of all that made it; a job
that makes one in the background; the short form that ships beside a set."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.make import make_atlas
from scx_core.atlas.tables.atlas import FILE, Atlas
from scx_core.cells import CellTable, open_cells
from scx_core.errors import ScxError
from scx_core.language import Language, load_language
from scx_core.runs import (
    Progress,
    RunFolder,
    all_jobs,
    find_job,
    from_dict,
    launch_job,
    runs_root,
    silent,
    to_dict,
    work_on,
)
from scx_core.runs.files import portable, to_json_text
from scx_core.runs.jobs import RUN
from scx_core.transcoders import EMBEDDED_SETS, TranscoderSet, load_set
from scx_core.transcoders.check import opened_as_is
from scx_core.transcoders.sources import Sources

FOLDER = "atlases"  # inside the runs folder


def shipped_root() -> Path:
    """The folder of the atlases that ship with scX, NAME-atlas beside the sets that they describe."""
    return EMBEDDED_SETS["embedded"].parent


def atlas_folder(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    cfg: AtlasConfig | None = None,
    root: Path | None = None,
) -> Path:
    """The folder for the atlas of all cells of a table, whether it is there or not.

    Its name has the set's name and a mark of everything that decides the content.
    """
    parts = {
        "fingerprints": [lm.fingerprint, transcoders.fingerprint, table.fingerprint],
        "choices": str(getattr(table, "choices", "")),
        "sentences": to_dict(lm.sentence_config),
        "config": to_dict(cfg or AtlasConfig()),
    }
    mark = hashlib.sha256(to_json_text(parts).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", transcoders.name).strip(".-")[:60] or "set"
    return (root or runs_root()) / FOLDER / portable(f"{name}-{mark}")


def saved_atlas(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    cfg: AtlasConfig | None = None,
    root: Path | None = None,
) -> Atlas | None:
    """The atlas if it was made already. Raises ScxError when its folder is damaged."""
    folder = atlas_folder(lm, transcoders, table, cfg, root)
    return Atlas.open(folder) if (folder / FILE).exists() else None


def atlas_of(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    cfg: AtlasConfig | None = None,
    *,
    root: Path | None = None,
    progress: Progress = silent,
) -> Atlas:
    """The atlas of all cells: opened, or made and kept. A set that was never saved has no identity, and its
    atlas is made each time. Raises ScxError where `make_atlas` does."""
    found = saved_atlas(lm, transcoders, table, cfg, root) if transcoders.fingerprint else None
    if found is not None:
        return found
    made = make_atlas(lm, transcoders, table, cfg=cfg, progress=progress)
    return made.save(atlas_folder(lm, transcoders, table, cfg, root)) if transcoders.fingerprint else made


ARGV = ("atlas", "--run", RUN)


@dataclass(frozen=True)
class AtlasJob(Sources):
    """What to open, and how large an atlas of it to make."""

    atlas: AtlasConfig = field(default_factory=AtlasConfig)


def job_of(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    cfg: AtlasConfig | None = None,
    root: Path | None = None,
) -> RunFolder | None:
    """The job that makes or made this atlas, None where there never was one."""
    return find_job(FOLDER, atlas_folder(lm, transcoders, table, cfg, root).name, root)


def last_asked(
    lm: Language, transcoders: TranscoderSet, table: CellTable, root: Path | None = None
) -> AtlasConfig | None:
    """What the newest job asked for that makes or made an atlas of these parts; None where there was none."""
    for run in all_jobs(root):
        if run.kind != "atlas":
            continue
        with suppress(ScxError):  # another version's: it is not found then
            cfg = from_dict(AtlasJob, run.config).atlas
            if atlas_folder(lm, transcoders, table, cfg, root).name == run.path.name:
                return cfg
    return None


def launch_atlas(
    job: AtlasJob, lm: Language, transcoders: TranscoderSet, table: CellTable, root: Path | None = None
) -> RunFolder:
    """Start making the atlas of a set in the background; a job that runs already goes on as it is.

    Raises ScxError for a set that was never saved.
    """
    if not transcoders.fingerprint:
        raise ScxError("This set was never saved, so its atlas could not be found again.", "Save it first.")
    name = atlas_folder(lm, transcoders, table, job.atlas, root).name
    return launch_job(FOLDER, name, job, ARGV, "atlas", root)


def run_job(run: RunFolder, progress: Progress = silent) -> Atlas:
    """Make the atlas of a job and keep it where `atlas_of` finds it. Raises ScxError where its parts cannot
    be opened or do not fit, and KeyboardInterrupt when it was asked to stop; the job's status says so
    then."""
    job = from_dict(AtlasJob, run.config)
    root = run.path.parent.parent.parent  # RUNS/atlases/jobs/NAME

    def make(tell: Progress) -> Atlas:
        table, lm = open_cells(job.data, job.cells), load_language(job.model, job.device)
        coders = load_set(job.transcoders, lm.device, lm.dtype)
        coders = opened_as_is(lm, coders) if job.as_is else coders
        return atlas_of(lm, coders, table, job.atlas, root=root, progress=tell)

    return work_on(run, make, progress)


# Rows of a feature that stay, the largest first; other tables stay whole.
ROWS = {"genes": 8, "families": 2, "pieces": 3, "types": 5, "donors": 4, "writes": 5}
EXAMPLES = {"top": 3, "sample": 1}
LEAST = {"types": 0.05, "ranks": 0.03}  # shares below which a row is left out


def ship(atlas: Atlas, folder: Path | str) -> Atlas:
    """Write the short form of an atlas to a folder, small enough to ship beside a set: what names and a
    feature's card need. Long tables lose their weakest rows, and what is held beside is left out;
    `meta["shortened"]` says how many rows of a feature stayed. Verdicts, figures and labels are the whole
    one's. Raises ScxError when the disk is full.
    """
    tables = {}
    for name, rows in ROWS.items():
        table = atlas.table(name)
        key = ["layer", "feature"] + (["kind"] if name == "writes" else [])
        table = table[table["share"] >= LEAST[name]] if name in LEAST else table
        tables[name] = table.groupby(key, sort=False, observed=True).head(rows).reset_index(drop=True)
    ranks = atlas.table("ranks")
    tables["ranks"] = ranks[ranks["share"] >= LEAST["ranks"]].reset_index(drop=True)
    examples = atlas.table("examples")
    kept = [
        part.groupby(["layer", "feature"], sort=False).head(EXAMPLES.get(str(kind), 0))
        for kind, part in examples.groupby("kind", observed=True)
    ]
    tables["examples"] = pd.concat(kept).sort_index().reset_index(drop=True)
    by_gene = tables["genes"].astype({"gene": str})
    tables["readers"] = by_gene.sort_values(["gene", "layer", "feature"], kind="stable", ignore_index=True)
    # Shares and their excess stay in the curve; the units of the baselines have no names to give.
    tables["baselines"] = atlas.table("baselines").head(0)
    meta = atlas.meta | {"beside": [], "shortened": {**ROWS, **EXAMPLES}}
    return atlas.in_memory().with_tables(tables, meta, {}).save(folder)


def place_of(set_folder: Path | None, models: Path | None = None) -> Path:
    """Where the atlas of an installed set ships: models/NAME-atlas for models/NAME-transcoders.

    Raises ScxError for a set that was never saved.
    """
    if set_folder is None:
        raise ScxError("This set was never saved, so its atlas has no place.", "Save the set first.")
    name = set_folder.name.replace("-transcoders", "")
    return (models or shipped_root()) / f"{name}-atlas"
