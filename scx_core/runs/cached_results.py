"""Results of questions, kept under `runs/results` by what made them, so that they are found again.

The key of a result is a digest of its provenance without what does not decide about numbers: fingerprints of
model, set and cells count and their names do not, nor do the versions of packages, which the file records.
A result whose definition has changed gets a new `revision` from its question. One file a result:
`runs/results/QUESTION/KEY.json` with `question`, `key`, `about` (the provenance) and `result`. A broken file
or one of another question counts as absent and is made anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.errors import ScxError
from scx_core.runs.files import check_object, read_json, to_json_text, write_json
from scx_core.runs.run_folder import runs_root

FOLDER = "results"
_NOT_DECIDING = ("name", "source", "versions", "intervals")
_QUESTION = re.compile(r"[a-z][a-z0-9_-]{0,59}")


class CachedResult(NamedTuple):
    """One result on disk: the JSON that its question gave, and the provenance that it was asked with."""

    question: str
    key: str
    about: dict[str, Any]
    result: dict[str, Any]
    path: Path


def key_of(about: Mapping[str, Any], revision: int = 1) -> str:
    """The key of a provenance (see `scx_core.runs.provenance`): 20 hex digits."""
    text = to_json_text({"about": _deciding(about), "revision": revision})
    return hashlib.sha256(_canonical(text).encode()).hexdigest()[:20]


def cached(
    question: str,
    about: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
    *,
    runs: Path | None = None,
    again: bool = False,
    revision: int = 1,
) -> dict[str, Any]:
    """The result of a question, from disk where it was made before (`again`: made anew in any case).

    `make` gives plain JSON data; what comes back is what the file holds, so that a first and a later answer
    are equal. Raises ScxError when the disk is full or the question's name is no plain word.
    """
    found = None if again else find_cached(question, about, runs=runs, revision=revision)
    if found is None:
        path = _path(question, about, runs, revision)
        record = {"question": question, "key": path.stem, "about": about, "result": make()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
        found = _read(path)
        if found is None:
            raise ScxError(f"{path} could not be read back.", "Check that folder and start again.")
    return found.result


def find_cached(
    question: str, about: Mapping[str, Any], *, runs: Path | None = None, revision: int = 1
) -> CachedResult | None:
    """The result that was made with this provenance; None where there is none."""
    return _read(_path(question, about, runs, revision))


def list_cached(question: str | None = None, *, runs: Path | None = None) -> list[CachedResult]:
    """All results on disk, of one question or of all, by question and key; broken files are left out."""
    folder = (runs or runs_root()) / FOLDER
    files = sorted(folder.glob(f"{question or '*'}/*.json"))
    return [one for path in files if (one := _read(path))]


def _path(question: str, about: Mapping[str, Any], runs: Path | None, revision: int) -> Path:
    if not _QUESTION.fullmatch(question):
        raise ScxError(f"{question[:40]!r} is no name of a question.", "Use small letters, digits and -.")
    return (runs or runs_root()) / FOLDER / question / f"{key_of(about, revision)}.json"


def _read(path: Path) -> CachedResult | None:
    if not path.is_file():
        return None
    try:
        data = check_object(read_json(path), {"about": {}, "result": {}}, path)
        if (data["question"], data["key"]) != (path.parent.name, path.stem):
            return None  # a file that was copied or renamed answers another question
        return CachedResult(data["question"], data["key"], data["about"], data["result"], path)
    except (ScxError, KeyError, OSError):
        return None


def _deciding(about: Any) -> Any:
    """The provenance without names and versions of packages, at any depth but in `config`."""
    if not isinstance(about, Mapping):
        return about
    return {
        key: value if key == "config" else _deciding(value)
        for key, value in about.items()
        if key not in _NOT_DECIDING
    }


def _canonical(text: str) -> str:
    """The same JSON with keys in order."""
    return json.dumps(json.loads(text), sort_keys=True)
