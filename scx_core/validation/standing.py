"""What validation says of a model and its transcoders, for everything that is made from them: a circuit, a
figure and a report carry it (`Standing`), so that no score stands alone beside a model that nobody can read.

A validation lies beside the set that a build made, or in the folder `validations` of the runs folder, where
`keep_validation` puts each that was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.errors import ScxError
from scx_core.runs.files import read_json, write_json
from scx_core.runs.run_folder import runs_root
from scx_core.validation.result import FILE, Validation, from_json, plain
from scx_core.validation.warnings import READ, WITH_CARE, judged

FOLDER = "validations"
PARTS = ("data", "model", "transcoders")


class Standing(NamedTuple):
    """`read`: whether circuits may be read as the model's reasons (no, with care, yes); `words` say why.
    `data` and `n_cells`: the held-out cells that it was measured on; `same_data`: whether they are of the
    very cells of the result that carries it. Shares are from 0 to 1."""

    read: str
    words: str
    data: str
    n_cells: int
    same_data: bool
    agreement: float
    ce_recovered: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a provenance."""
        return plain(self)


def keep_validation(found: Validation, root: Path | None = None) -> Path | None:
    """Save a validation where `standing_of` and the app look for it; a newer one takes its place. None where
    nothing can be written: what was measured is shown all the same."""
    path = (root or runs_root()) / FOLDER / f"{_mark(found.provenance)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found.to_json())
    except (OSError, ScxError):
        return None
    return path


def kept_validation(made_from: Mapping[str, Any], root: Path | None = None) -> Validation | None:
    """The validation that was measured for this very data, model and set, if one is kept. A file that cannot
    be read is passed over: it is measured again."""
    return _read((root or runs_root()) / FOLDER / f"{_mark(made_from)}.json")


def standing_of(
    made_from: Mapping[str, Any], beside: Path | None = None, root: Path | None = None
) -> Standing | None:
    """What is known of the model and the transcoders that `made_from` states (a provenance, or anything with
    a fingerprint each); None where nobody measured it.

    Of several the one of the same cells, then the one of the most cells. `beside`: the set's folder.
    """
    best: tuple[bool, int] | None = None
    chosen: Validation | None = None
    for found in _validations(beside, root or runs_root()):
        if any(_fingerprint(found.provenance, part) != _fingerprint(made_from, part) for part in PARTS[1:]):
            continue
        same = _fingerprint(found.provenance, "data") == _fingerprint(made_from, "data")
        if best is None or (same, found.n_cells) > best:
            best, chosen = (same, found.n_cells), found
    if chosen is None or best is None:
        return None
    read, words = judged(chosen)
    if read == READ and not best[0]:  # how well they do on these cells nobody knows
        read = WITH_CARE
    about = chosen.provenance.get("data")
    name = str(about.get("name", "")) if isinstance(about, Mapping) else ""
    shares = chosen.label_agreement, chosen.ce_recovered, chosen.label_accuracy_orig
    return Standing(read, words, name, chosen.n_cells, best[0], *shares)


def validations_stamp(root: Path | None = None) -> tuple[tuple[str, int], ...]:
    """Changes when a validation is kept in the runs folder."""
    folder = (root or runs_root()) / FOLDER
    return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.json")))


def _validations(beside: Path | None, root: Path) -> Iterator[Validation]:
    paths = [beside / FILE] if beside is not None else []
    for path in (*paths, *sorted((root / FOLDER).glob("*.json"))):
        found = _read(path)
        if found is not None:
            yield found


def _read(path: Path) -> Validation | None:
    try:
        return from_json(read_json(path)) if path.exists() else None
    except (ScxError, KeyError, TypeError, AttributeError, ValueError):
        return None


def _fingerprint(made_from: Mapping[str, Any], part: str) -> str:
    stated = made_from.get(part)
    mark = stated.get("fingerprint") if isinstance(stated, Mapping) else getattr(stated, "fingerprint", None)
    return str(mark or "")


def _mark(made_from: Mapping[str, Any]) -> str:
    marks = "\n".join(_fingerprint(made_from, part) for part in PARTS)
    return hashlib.sha256(marks.encode()).hexdigest()[:16]
