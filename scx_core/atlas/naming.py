"""Names for the features of a circuit: the labels of whichever saved atlas describes the same features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scx_core.atlas.human import FILE as LABELS_FILE
from scx_core.atlas.saved import FOLDER
from scx_core.atlas.store import FILE, Atlas
from scx_core.errors import ScxError
from scx_core.runs import read_json, runs_root


def labels_for(provenance: Mapping[str, Any], root: Path | None = None) -> dict[str, str]:
    """Labels by "L2·513" from an atlas of the model and the set that a circuit's provenance names; empty when
    there is none.

    Of several the one of the same cells, then of the most cells. One that cannot be read is passed over.
    """
    for folder in _describing(provenance, (root or runs_root()) / FOLDER):
        try:
            return Atlas.open(folder).labels()
        except ScxError:
            continue
    return {}


def labels_stamp(root: Path | None = None) -> tuple[tuple[str, int], ...]:
    """Changes when an atlas or a label in the runs folder does."""
    place = (root or runs_root()) / FOLDER
    files = [path for name in (FILE, LABELS_FILE) for path in place.glob(f"*/{name}")]
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files))


def _describing(provenance: Mapping[str, Any], place: Path) -> list[Path]:
    """Folders of atlases of the same features, the fittest first."""
    wanted = [_mark(provenance, part) for part in ("model", "transcoders")]
    if not all(wanted):
        return []
    found = []
    for path in place.glob(f"*/{FILE}"):
        try:
            meta = read_json(path)
        except ScxError:
            continue
        about = meta.get("provenance") if isinstance(meta, dict) else None
        if not isinstance(about, dict) or [_mark(about, part) for part in ("model", "transcoders")] != wanted:
            continue
        other = _mark(about, "data") != _mark(provenance, "data")
        found.append((other, -int(meta.get("n_cells", 0)), path.parent))
    return [folder for *_, folder in sorted(found)]


def _mark(provenance: Mapping[str, Any], part: str) -> str:
    thing = provenance.get(part)
    mark = thing.get("fingerprint") if isinstance(thing, Mapping) else None
    return str(mark or "")
