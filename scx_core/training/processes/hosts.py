"""Computers that train together and share no disk: what the others need of rank 0's run folder, sent to them.

Whether a computer sees rank 0's folder is looked at and not believed: rank 0 puts a file of a random name
there. Where it is not seen, a folder of the same path is made, and the files that are missing or differ are
sent over the team's own connection. Cells and model lie at the same paths everywhere; they are not sent.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scx_core.errors import ScxError
from scx_core.runs.files import read_json, replace_atomic, to_json_text
from scx_core.training.processes.distributed import Team

PIECE = 2**25  # bytes of one message
OF_ONE = ("ranks", "tensorboard")  # folders of a run that belong to a computer
NOT_SENT = ("lock", "job.log", "process.json", "status.json", "stop")


def share(team: Team, folder: Path) -> None:
    """Rank 0's files under `folder`, on every computer of the team. All of them call it, and go on together.

    Raises ScxError where such a folder cannot be written, or is that of another run.
    """
    if team.size == 1:
        return
    seen = _seen(team, folder)
    if not team.total(torch.tensor(int(not seen))):
        return
    there = json.loads(team.text(json.dumps([_run(folder), _digests(folder)] if team.leads else "")))
    files: dict[str, list[Any]] = there[1]
    missing: set[str] = set()
    if not seen and team.local_rank == 0:
        _check_same_run(folder, there[0])
        missing = _missing(folder, files)
    wanted = team.total(torch.tensor([int(name in missing) for name in files], dtype=torch.int64)).tolist()
    for name, count in zip(files, wanted, strict=True):
        if count:
            _send(team, folder / name, files[name][0], name in missing)
    team.meet()


def _seen(team: Team, folder: Path) -> bool:
    """Whether this process sees the folder of rank 0."""
    name = team.text(f".seen-{secrets.token_hex(8)}")
    if team.leads:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    team.meet()
    seen = (folder / name).exists()
    team.meet()
    if team.leads:
        (folder / name).unlink(missing_ok=True)
    return seen


def _run(folder: Path) -> str:
    """What the run in this folder was asked for, "" where there is none."""
    path = folder / "run.json"
    record = read_json(path) if path.exists() else {}
    return to_json_text({key: record[key] for key in ("config", "provenance") if key in record})


def _check_same_run(folder: Path, there: str) -> None:
    if (folder / "run.json").exists() and _run(folder) != there:
        raise ScxError(
            f"{folder} is another run on this computer than on that of process 0.",
            "Move it away, or give the new run another name (--name): its folder has one path everywhere.",
        )


def _digests(folder: Path) -> dict[str, list[Any]]:
    """Size and sha256 of the files that are sent, by their names in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in OF_ONE and parts[-1] not in NOT_SENT and parts[-1][0] != ".":
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found["/".join(parts)] = [path.stat().st_size, digest]
    return found


def _missing(folder: Path, files: dict[str, list[Any]]) -> set[str]:
    """Names of those that are not here as they are there. Checkpoints that are not among them go: an old one
    would be taken for the latest."""
    here = _digests(folder) if folder.exists() else {}
    for name in here.keys() - files.keys():
        if Path(name).name.startswith("step-"):
            (folder / name).unlink(missing_ok=True)
    return {name for name, about in files.items() if here.get(name) != about}


def _send(team: Team, path: Path, size: int, wanted: bool) -> None:
    """One file from rank 0 to all, in pieces; kept where it is wanted."""

    def pour(target: Path | None) -> None:
        with (
            open(path, "rb") if team.leads else nullcontext() as source,
            open(target, "wb") if target is not None else nullcontext() as kept,
        ):
            for start in range(0, size, PIECE):
                length = min(PIECE, size - start)
                piece = torch.zeros(length, dtype=torch.uint8)
                if source is not None:
                    piece[:] = torch.from_numpy(np.frombuffer(source.read(length), np.uint8).copy())
                team.led([piece])
                if kept is not None:
                    kept.write(piece.numpy().tobytes())

    if wanted:
        replace_atomic(path, pour)
    else:
        pour(None)
