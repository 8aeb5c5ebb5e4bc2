"""Where atlases lie, so that each is made once: the runs folder, by the identity of all that made it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.make import collect
from scx_core.atlas.tables.atlas import FILE, Atlas
from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.runs import Progress, runs_root, silent, to_dict
from scx_core.runs.files import to_json_text
from scx_core.transcoders import EMBEDDED_SETS, TranscoderSet

FOLDER = "atlases"  # inside the runs folder


def shipped_root() -> Path:
    """The folder in which atlases lie that ship with scX, as NAME-atlas beside the sets that they
    describe."""
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
    return (root or runs_root()) / FOLDER / f"{name}-{mark}"


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
    atlas is made each time. Raises ScxError where `collect` does."""
    found = saved_atlas(lm, transcoders, table, cfg, root) if transcoders.fingerprint else None
    if found is not None:
        return found
    made = collect(lm, transcoders, table, cfg=cfg, progress=progress)
    return made.save(atlas_folder(lm, transcoders, table, cfg, root)) if transcoders.fingerprint else made
