"""Checkpoints: tensors and state in two files that count only together, so that a kill costs one at most.

`step-000123.safetensors` is written first and carries the hash of the state it belongs to; then comes
`step-000123.json` with the state. A step with one file only, or with two that do not match, does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scx_core.errors import ScxError
from scx_core.runs.files import TEMPORARY, replace_atomic, to_json_text, write_atomic

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"step-(\d{6,})\.json")


class Checkpoint(NamedTuple):
    """The state of a job after `step` steps: tensors on the CPU, and plain JSON beside them.

    `score` says how good it is, the lower the better; None when that was not measured.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    score: float | None = None


def save(
    folder: Path,
    step: int,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    keep: int = 2,
    score: float | None = None,
) -> None:
    """Write a checkpoint and remove all but the newest `keep` and the best one. One writer at a time.

    Raises ScxError when the disk is full; the checkpoints before are untouched then.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # what a writer that was killed left: temporary files, and tensors whose state never came
    for file in folder.glob(f"{TEMPORARY}*"):
        file.unlink(missing_ok=True)
    for file in folder.glob("step-*.safetensors"):
        if not file.with_suffix(".json").exists():
            file.unlink(missing_ok=True)
    record = {"step": step, "state": state} | ({} if score is None else {"score": score})
    text = to_json_text(record, indent=2) + "\n"
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    target, size = folder / f"step-{step:06d}.safetensors", sum(t.nbytes for t in flat.values())
    about = {"state_sha256": _sha256(text)}
    replace_atomic(target, lambda temporary: save_file(flat, temporary, about), size=size)
    write_atomic(target.with_suffix(".json"), text)
    best = list(scores(folder))[:1]
    for old in set(_steps(folder)[keep:]) - set(best):
        # The state goes first: without it the tensors no longer count.
        (folder / f"step-{old:06d}.json").unlink(missing_ok=True)
        (folder / f"step-{old:06d}.safetensors").unlink(missing_ok=True)


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None when there is none."""
    for step in _steps(folder):
        checkpoint = _load(folder, step)
        if checkpoint is not None:
            return checkpoint
    return None


def load_best(folder: Path) -> Checkpoint | None:
    """The whole checkpoint of the lowest score, the earlier of equal ones; None when none has a score."""
    best = next(iter(scores(folder)), None)
    return None if best is None else _load(folder, best)


def scores(folder: Path) -> dict[int, float]:
    """Step → score of the whole checkpoints that have one, the best first, the earlier of equal ones."""
    found = (_load(folder, step, with_tensors=False) for step in _steps(folder))
    known = [(one.score, one.step) for one in found if one is not None and one.score is not None]
    return {step: score for score, step in sorted(known)}


def _load(folder: Path, step: int, with_tensors: bool = True) -> Checkpoint | None:
    """The checkpoint of `step`, or all but its tensors; None when it is not whole."""
    from safetensors import SafetensorError, safe_open

    path = folder / f"step-{step:06d}.safetensors"
    try:
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("state_sha256") != _sha256(text):
                return None
            names = file.keys() if with_tensors else ()
            # In memory of their own: in the file they begin anywhere, and where a matrix begins decides in
            # which order some processors' products sum, so in the last bits of a run that goes on.
            tensors = {name: file.get_tensor(name).clone() for name in names}
        record = json.loads(text)
        return Checkpoint(step, tensors, record["state"], record.get("score"))
    except (FileNotFoundError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError, KeyError):
        return None
    except OSError as error:
        raise ScxError(
            f"The checkpoint {path} could not be read: {error.strerror}.", "Check the disk."
        ) from error


def _steps(folder: Path) -> list[int]:
    """Steps that have a state file, newest first."""
    names = (_NAME.fullmatch(file.name) for file in folder.glob("step-*.json"))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
